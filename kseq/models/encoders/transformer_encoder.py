"""The Transformer encoder of tokens."""

from functools import partial
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.inner_layers import freeze_inner_layers
from kseq.layers import SequencePooling, TransformerDecoderLayer, TransformerEncoderLayer
from kseq.layers.feed_forward import Activation
from kseq.layers.transformer_block import drop
from kseq.masking import mask_from_lengths, zero_padding
from kseq.models.encoders.embedding_encoder import EmbeddingEncoder
from kseq.models.encoders.token_encoder import Encoded
from kseq.models.transformer_cache import TransformerState, empty_state, position_of, room_of, step_layers
from kseq.models.transformer_options import (
    ModelPositions,
    config_of_stack,
    last_norm,
    layers_of_stack,
    positions_layer,
    scaled,
    start_embedding,
)
from kseq.numbers import flag, positive_int, share
from kseq.short_help import ShortHelp


@keras.saving.register_keras_serializable(package="kseq")
class TransformerEncoder(EmbeddingEncoder, metaclass=ShortHelp):
    """Embeds token ids, adds positions, and reads them with layers of self-attention.

    Args:
        vocabulary_size: Number of token ids.
        units: Size of embeddings and values, a multiple of `num_heads`.
        num_layers: Number of `kseq.layers.TransformerEncoderLayer`, at least 1.
        num_heads: Number of attention heads.
        intermediate_dim: Size of the values inside the feed-forward parts; None: `4 * units`.
        activation: "relu", "gelu" or "swiglu".
        norm_first: Whether the inputs of the parts are normalised, and the values after the last layer; False: the
            sums after each part.
        dropout: Share of the layers' inputs and of the parts' outputs dropped in training.
        attention_dropout: Share of the attention weights dropped in training.
        num_kv_heads: Number of heads of keys and values, see `kseq.attention.MultiHeadAttention`; None: `num_heads`.
        positions: "sinusoidal" or "learned", which are added to the embeddings; "rotary" or "relative", of the
            attention; or None.
        max_length: Largest number of tokens, for "learned" positions, and for a causal encoder that reads step by step.
        causal: Whether each token attends to itself and the tokens before it alone, as a `LanguageModel` needs it.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        tokens: int `(batch, time)`.
        lengths: int `(batch,)`, the number of real tokens in each row. Padding never changes an answer.
        training: Whether dropout is on.

    Returns:
        `Encoded(values (batch, time, units), mask, states)` with one state `(batch, units)`, the mean of the values
        over the real steps. For a row of length 0 all of them are zero.

    Raises:
        ValueError: If the heads do not divide the units, an option is out of range, `max_length` is missing or does not
            apply, or rows are known to be longer than it. In a graph such a row has values NaN.

    Example:
        >>> encoder = kseq.models.TransformerEncoder(5000, 64, num_layers=2, num_heads=4)
        >>> encoder(np.ones((2, 7), "int32"), np.array([7, 3])).values.shape
        (2, 7, 64)

    Reference: A. Vaswani et al., "Attention is all you need", 2017.
    """

    def __init__(
        self,
        vocabulary_size: int,
        units: int,
        *,
        num_layers: int = 4,
        num_heads: int = 4,
        intermediate_dim: int | None = None,
        activation: Activation = "gelu",
        norm_first: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        num_kv_heads: int | None = None,
        positions: ModelPositions | None = "sinusoidal",
        max_length: int | None = None,
        causal: bool = False,
        **kwargs: Any,
    ):
        super().__init__(vocabulary_size, units, **kwargs)
        self.units, self.num_layers = positive_int(self, "units", units), positive_int(self, "num_layers", num_layers)
        self.dropout, self.positions, self.max_length = share(self, "dropout", dropout), positions, max_length
        start_embedding(self.embedding)
        self.causal = flag("causal", causal)
        if max_length is not None and positions != "learned" and not causal:
            raise ValueError(f"max_length={max_length} applies to positions='learned', but positions={positions!r}.")
        if causal and max_length is None:
            raise ValueError(
                "causal=True needs max_length, the largest number of tokens that the encoder reads step by step."
            )
        room = room_of(max_length) if causal and max_length else max_length
        self.positions_layer = positions_layer(self, positions, room)
        self.layers: list[Any] = layers_of_stack(
            self,
            partial(TransformerDecoderLayer, cross_attention=False) if causal else TransformerEncoderLayer,
            num_heads,
            intermediate_dim,
            activation=activation,
            norm_first=norm_first,
            attention_dropout=attention_dropout,
            num_kv_heads=num_kv_heads,
        )
        self.norm = last_norm(self, norm_first)
        self.mean = SequencePooling("mean", dtype=self.dtype_policy)
        self.seed_generator = keras.random.SeedGenerator() if self.dropout else None
        freeze_inner_layers(self)

    def build_reader(self) -> None:
        """Create the weights of the layers."""
        shape = (None, None, self.units)
        for layer in (self.positions_layer, *self.layers, self.norm):
            if layer is not None:
                layer.build(shape)

    def read(self, values: Tensor, lengths: Tensor, training: bool | None = None) -> Encoded:
        """Run the layers over embeddings `(batch, time, units)`."""
        mask = mask_from_lengths(lengths, ops.shape(values)[1])
        values = scaled(values)
        values = values if self.positions_layer is None else self.positions_layer(values)
        values = drop(values, self.dropout, self.seed_generator, training)
        for layer in self.layers:
            values = layer(values, mask=mask, training=training)
        values = zero_padding(values if self.norm is None else self.norm(values), mask)
        return Encoded(values, mask, (self.mean(values, mask=mask),))

    def initial_state(self, batch: int | Tensor, max_length: int | None = None) -> TransformerState:
        """Return an empty cache, see `TokenEncoder.initial_state`.

        Raises:
            ValueError: If `max_length` is larger than that of the encoder, or the encoder is not causal.
        """
        if not self.causal or self.max_length is None:
            raise ValueError("A TransformerEncoder that reads step by step needs causal=True.")
        most = self.max_length if max_length is None else positive_int(self, "max_length", max_length)
        if most > self.max_length:
            raise ValueError(
                f"A text of {most} tokens shall be read, but the TransformerEncoder was made for at most "
                f"max_length={self.max_length}. Read fewer, or make it with a larger max_length."
            )
        if not self.built:
            self.build()
        return empty_state(self.layers, batch, most)

    def step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """Run the layers at one more token of each text, see `TokenEncoder.step`."""
        values = scaled(ops.cast(self.embedding(tokens), self.compute_dtype))
        if self.positions_layer is not None:
            values = self.positions_layer(values, offset=position_of(state))
        values, new, _ = step_layers(self.layers, values, state, [None] * self.num_layers)
        return values if self.norm is None else self.norm(values), new

    def encoded_shape(self) -> Encoded:
        """Return the shapes of what `call` returns."""
        return Encoded((None, None, self.units), (None, None), ((None, self.units),))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        del config["embedding_dim"]
        return {**config, "units": self.units, **config_of_stack(self), "causal": self.causal}
