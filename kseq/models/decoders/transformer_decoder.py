"""The Transformer decoder of a sequence-to-sequence model."""

from typing import Any, NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding import StepOutput
from kseq.inner_layers import freeze_inner_layers
from kseq.layers import TransformerDecoderLayer
from kseq.layers.feed_forward import Activation
from kseq.layers.transformer_block import drop
from kseq.models.decoders.tied_logits import TiedLogits
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
from kseq.numbers import flag, positive_int, share, whole
from kseq.short_help import ShortHelp


class TransformerMemory(NamedTuple):
    """The part of an encoded source that all decoding steps read, batch first.

    Attributes:
        layers: For each layer the `kseq.attention.Memory` of the source.
    """

    layers: tuple


@keras.saving.register_keras_serializable(package="kseq")
class TransformerDecoder(keras.layers.Layer, metaclass=ShortHelp):
    """Predicts each token from the tokens before it and an encoded source, by layers of attention to both.

    Training runs all positions at once. `step` runs one position, and keeps the keys and values of those before in a
    cache of fixed size: `Seq2Seq.decode` makes one with room for its `max_length`.

    Args:
        vocabulary_size: Number of token ids.
        units: Size of embeddings and values, a multiple of `num_heads`.
        num_layers: Number of `kseq.layers.TransformerDecoderLayer`, at least 1.
        num_heads, intermediate_dim, activation, norm_first, dropout, attention_dropout, num_kv_heads, positions: As in
            `TransformerEncoder`.
        max_length: Largest number of tokens in a target, the end token included.
        tie_embeddings: Whether the kernel of the logits is the transpose of the embedding (Press & Wolf 2017).
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        tokens: int `(batch, time)`, the previous token of each step; the first is the begin token.
        encoded: The encoder's `Encoded`.
        training: Whether dropout is on.
        embedded: Float `(batch, time, units)`, used in place of the tokens' embeddings if it is given.
        return_weights: Whether to return the weights on the source too.

    Returns:
        Logits, float32 `(batch, time, vocabulary)`; with `return_weights` a tuple of them and the weights on the source
        of the last layer, `(batch, time, source time)`, the mean over its heads.

    Raises:
        ValueError: If the heads do not divide the units, an option is out of range, or more tokens are to be written
            than `max_length`. Where this is only known in a graph, the logits of positions beyond it are NaN: of the
            steps, and with "learned" positions in training.

    Example:
        >>> model = kseq.models.Seq2Seq(
        ...     kseq.models.TransformerEncoder(5000, 64, num_layers=2),
        ...     kseq.models.TransformerDecoder(5000, 64, num_layers=2, max_length=50))
        >>> model.compile("adam")

    References:
        - A. Vaswani et al., "Attention is all you need", 2017.
        - O. Press, L. Wolf, "Using the output embedding to improve language models", 2017.
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
        max_length: int = 256,
        tie_embeddings: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size = whole("vocabulary_size", vocabulary_size)
        self.units, self.num_layers = positive_int(self, "units", units), positive_int(self, "num_layers", num_layers)
        self.dropout, self.positions = share(self, "dropout", dropout), positions
        self.max_length = positive_int(self, "max_length", max_length)
        self.embedding = keras.layers.Embedding(self.vocabulary_size, self.units, dtype=self.dtype_policy)
        start_embedding(self.embedding)
        self.positions_layer = positions_layer(self, positions, room_of(self.max_length))
        self.layers: list[Any] = layers_of_stack(
            self,
            TransformerDecoderLayer,
            num_heads,
            intermediate_dim,
            activation=activation,
            norm_first=norm_first,
            attention_dropout=attention_dropout,
            num_kv_heads=num_kv_heads,
        )
        self.norm = last_norm(self, norm_first)
        self.seed_generator = keras.random.SeedGenerator() if self.dropout else None
        self.tie_embeddings = flag("tie_embeddings", tie_embeddings)
        self.to_logits = (
            TiedLogits(self.embedding, dtype="float32")
            if self.tie_embeddings
            else keras.layers.Dense(self.vocabulary_size, dtype="float32")
        )
        freeze_inner_layers(self)

    def build(self, tokens_shape: tuple, encoded_shape: Encoded) -> None:
        """Create the weights for an encoder's output of the shapes `encoded_shape`."""
        encoded_shape = Encoded(*encoded_shape)  # a list, if it comes from a saved file
        shape = (None, None, self.units)
        self.embedding.build((None, None))
        if self.positions_layer is not None:
            self.positions_layer.build(shape)
        for layer in self.layers:
            layer.build(shape, tuple(encoded_shape.values))
        if self.norm is not None:
            self.norm.build(shape)
        self.to_logits.build(shape)

    def initial_state(self, encoded: Encoded) -> TransformerState:
        """Return the state before the first token, with room for `max_length` tokens."""
        self._build_for(encoded)
        return empty_state(self.layers, ops.shape(encoded.values)[0], self.max_length)

    def _build_for(self, encoded: Encoded) -> None:
        """Create the weights if a method other than `call` comes first."""
        if not self.built:
            self.build((None, None), Encoded((None, None, encoded.values.shape[-1]), (None, None), ()))

    def with_room(self, state: TransformerState, max_length: int | None) -> TransformerState:
        """Return an initial state with room for fewer tokens, which makes the steps faster.

        Args:
            state: What `initial_state` returned.
            max_length: Largest number of tokens that will be written; None: that of the decoder.

        Raises:
            ValueError: If it is larger than that of the decoder.
        """
        if max_length is None:
            return state
        if positive_int(self, "max_length", max_length) > self.max_length:
            raise ValueError(
                f"max_length={max_length} tokens shall be written, but the TransformerDecoder was made for at most "
                f"max_length={self.max_length}. Write fewer, or make it with a larger max_length."
            )
        return empty_state(self.layers, ops.shape(state.position)[0], int(max_length))

    def memory(self, encoded: Encoded) -> TransformerMemory:
        """Return the part of the source that all steps read."""
        self._build_for(encoded)
        return TransformerMemory(tuple(layer.memory(encoded.values, encoded.mask) for layer in self.layers))

    def call(
        self,
        tokens: Tensor,
        encoded: Encoded,
        training: bool | None = None,
        embedded: Tensor | None = None,
        return_weights: bool = False,
    ) -> Any:
        """Return the logits of every step, given the true previous tokens (teacher forcing)."""
        memory, weights = self.memory(Encoded(*encoded)), None
        values = self._start(self.embedding(tokens) if embedded is None else embedded, 0)
        values = drop(values, self.dropout, self.seed_generator, training)
        for layer, of_source in zip(self.layers, memory.layers, strict=True):
            values, weights = layer.run(values, of_source, training=training)
        logits = self.to_logits(self._end(values))
        return (logits, weights) if return_weights else logits

    def step(self, tokens: Tensor, state: TransformerState, memory: TransformerMemory) -> StepOutput:
        """Run one decoding step for every hypothesis; the search strategies of `kseq.decoding` call this method.

        Args:
            tokens: int `(rows,)`, the previous tokens; rows = batch x hypotheses.
            state: What `initial_state` or the last step returned.
            memory: What `memory` returned.

        Returns:
            Logits, float32 `(rows, vocabulary)`; the new state; the weights on the source of the last layer, `(rows,
            source time)`; and the inputs of the logits' layer, `(rows, units)`.
        """
        return self.step_embedded(self.embedding(tokens), state, memory)

    def step_embedded(self, embedded: Tensor, state: TransformerState, memory: TransformerMemory) -> StepOutput:
        """Run `step` with embeddings of the previous tokens, float `(rows, units)`, in place of the tokens."""
        values = self._start(embedded, position_of(state))
        values, new, weights = step_layers(self.layers, values, state, memory.layers)
        hidden = self._end(values)
        return StepOutput(self.to_logits(hidden), new, weights, hidden)

    def _start(self, embedded: Tensor, offset: Any) -> Tensor:
        """Return embeddings `(batch, [time,] units)` with their positions."""
        values = scaled(ops.cast(embedded, self.compute_dtype))
        return values if self.positions_layer is None else self.positions_layer(values, offset=offset)

    def _end(self, values: Tensor) -> Tensor:
        return values if self.norm is None else self.norm(values)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "units": self.units,
            **config_of_stack(self),
            "tie_embeddings": self.tie_embeddings,
        }
