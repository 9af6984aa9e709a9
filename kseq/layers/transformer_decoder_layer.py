"""The layer of a Transformer's decoder."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kseq.attention import KeyValueCache, Memory
from kseq.attention.multi_head import Positions
from kseq.backend import Tensor
from kseq.layers.feed_forward import Activation
from kseq.layers.transformer_block import TransformerBlock
from kseq.numbers import flag


@keras.saving.register_keras_serializable(package="kseq")
class TransformerDecoderLayer(TransformerBlock):
    """Causal self-attention, attention to a source, and a feed-forward part, each with a residual connection.

    It runs over a whole sequence by `call`, or position by position by `step`, with the same results:

        cache, memory = layer.cache(batch, max_length), layer.memory(source, source_mask)
        for position in range(time):
            outputs, alignments, cache = layer.step(values[:, position], cache, memory)

    Args:
        num_heads: Number of attention heads, which divides the size of the values.
        intermediate_dim: Size of the values inside the feed-forward part.
        activation, norm_first, dropout, attention_dropout, num_kv_heads, seed: As in `TransformerEncoderLayer`.
        positions: None, "rotary" or "relative", of the self-attention.
        cross_attention: Whether the layer attends to a source. False: a layer of a language model.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, time, dim)`.
        source: Float `(batch, source time, source dim)`, or what `memory` returned for it; None without
            `cross_attention`.
        mask: Bool `(batch, time)`, True at the real steps. None: the implicit Keras mask of the values, if they have
            one.
        source_mask: Bool `(batch, source time)`. None: the implicit Keras mask of the source.
        training: Whether dropout is on.

    Returns:
        Float `(batch, time, dim)`, with the mask of the values. Padding, NaN included, changes neither real steps nor
        gradients.

    Raises:
        ValueError: If the heads do not divide the values, there is a source without `cross_attention` or none with it,
            an option is out of range, or a shape is wrong; further as in `MultiHeadAttention.cached_step`.

    Example:
        >>> layer = kseq.layers.TransformerDecoderLayer(num_heads=4, intermediate_dim=256)
        >>> layer(np.zeros((2, 7, 64), "float32"), np.zeros((2, 5, 32), "float32")).shape
        (2, 7, 64)

    References: as in `TransformerEncoderLayer`.
    """

    def __init__(
        self,
        num_heads: int,
        intermediate_dim: int,
        *,
        activation: Activation = "relu",
        norm_first: bool = False,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        num_kv_heads: int | None = None,
        positions: Positions | None = None,
        seed: int | None = None,
        cross_attention: bool = True,
        **kwargs: Any,
    ):
        super().__init__(
            num_heads,
            intermediate_dim,
            activation=activation,
            norm_first=norm_first,
            dropout=dropout,
            attention_dropout=attention_dropout,
            num_kv_heads=num_kv_heads,
            positions=positions,
            seed=seed,
            **kwargs,
        )
        self.cross_attention = flag("cross_attention", cross_attention)
        self.source_norm: Any = self._norm("source_norm") if cross_attention else None

    def build(self, values_shape: tuple, source_shape: Any = None) -> None:
        """Create the weights for values `(batch, time, dim)` and a source `(batch, source time, source dim)`."""
        shape = tuple(values_shape)
        self.self_attention = self._attention(shape[-1], 1, "self_attention", causal=True, positions=self.positions)
        self.self_attention.build(shape, shape)
        for layer in (self.attention_norm, self.feed_forward, self.feed_forward_norm):
            layer.build(shape)
        self.source_attention: Any = None
        if self.source_norm is not None:
            if source_shape is None or isinstance(source_shape, Memory):
                raise ValueError(
                    "TransformerDecoderLayer with cross_attention=True needs a source: layer(values, source). "
                    "For a language model give cross_attention=False."
                )
            self.source_attention = self._attention(shape[-1], 2, "source_attention")
            self.source_attention.build(shape, tuple(source_shape))
            self.source_norm.build(shape)

    def call(
        self,
        values: Tensor,
        source: Tensor | Memory | None = None,
        mask: Tensor | None = None,
        source_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor:
        """Return the values of the next layer at all positions."""
        mask = self._read_mask(values, mask)
        memory = source if source is None or isinstance(source, Memory) else self._memory(source, source_mask)
        return self._with_mask(self.run(self._start(values, mask), memory, mask, training)[0], mask)

    def run(
        self, values: Tensor, memory: Memory | None, mask: Tensor | None = None, training: bool | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the outputs of `call`, and the weights on the source `(batch, time, source time)`, None without one.

        Args:
            values: Float `(batch, time, dim)` in the compute dtype, finite in the padding.
            memory: What `memory` returned.
            mask: Bool `(batch, time)`, or None.
            training: Whether dropout is on.
        """
        self._check_source(memory)
        alignments: list[Tensor] = []

        def attend(values: Tensor) -> Tensor:
            return self.self_attention(values, values, memory_mask=mask, training=training)[0]

        def read(values: Tensor) -> Tensor:
            context, weights, _ = self.source_attention(values, memory, training=training)
            alignments.append(weights)
            return context

        outputs = self._through_parts(values, attend, read, training)
        return outputs, alignments[0] if alignments else None

    def _through_parts(self, values: Tensor, attend: Callable, read: Callable, training: bool | None) -> Tensor:
        """Return the outputs for functions that attend to the positions before, and that read the source."""
        summed = self._residual(values, self.attention_norm, attend, training)
        if self.source_attention is not None:
            summed = self._residual(summed, self.source_norm, read, training)
        return self._residual(summed, self.feed_forward_norm, self.feed_forward, training)

    def memory(self, source: Tensor, mask: Tensor | None = None) -> Memory:
        """Return the keys and values of a source `(batch, source time, source dim)`, once for all steps."""
        if self.source_attention is None:
            raise ValueError("TransformerDecoderLayer with cross_attention=False reads no source.")
        return self._memory(source, mask)

    def _memory(self, source: Tensor, mask: Tensor | None) -> Memory | Tensor:
        if self.source_attention is None:
            return source  # refused by `_check_source`
        return self.source_attention.memory(source, self._read_mask(source, mask, "source_mask"))

    def _check_source(self, memory: Any) -> None:
        if (memory is None) == (self.source_attention is not None):
            raise ValueError(
                f"TransformerDecoderLayer with cross_attention={self.cross_attention} got "
                f"{'no' if memory is None else 'a'} source."
            )

    def cache(self, batch: int | Tensor, max_length: int) -> KeyValueCache:
        """Return an empty cache with room for `max_length` positions of each row; the layer must be built."""
        return self.self_attention.cache(batch, max_length)

    def step(
        self, values: Tensor, cache: KeyValueCache, memory: Memory | None = None, *, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, KeyValueCache]:
        """Run the layer at the next position.

        Args:
            values: Float `(rows, dim)`; rows = batch x hypotheses.
            cache: The cache of the positions before.
            memory: What `memory` returned, batch first; None without `cross_attention`.
            seen: As in `MultiHeadAttention.cached_step`, in a beam whose caches are not moved.

        Returns:
            `(outputs, alignments, cache)`: outputs `(rows, dim)`; the weights on the source `(rows, source time)`, the
            mean over the heads, None without `cross_attention`; and the new cache.
        """
        self._check_source(memory)
        with keras.name_scope(self.name, caller=self):
            news: dict[str, Any] = {"alignments": None}

            def attend(values: Tensor) -> Tensor:
                context, _, news["cache"] = self.self_attention.cached_step(values, cache, seen=seen)
                return context

            def read(values: Tensor) -> Tensor:
                context, news["alignments"], _ = self.source_attention.step(values, memory, ())
                return context

            outputs = self._through_parts(ops.cast(values, self.compute_dtype), attend, read, None)
        return outputs, news["alignments"], news["cache"]

    def compute_output_shape(self, values_shape: tuple, source_shape: Any = None) -> tuple:
        """Return the shape of the values."""
        return tuple(values_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "cross_attention": self.cross_attention}
