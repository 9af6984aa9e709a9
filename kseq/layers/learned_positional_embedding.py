"""Learned embeddings of positions."""

import math
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor, known_value
from kseq.layers.position_offsets import check_offset, check_values, positions_of
from kseq.numbers import positive_int
from kseq.short_help import ShortHelp


@keras.saving.register_keras_serializable(package="kseq")
class LearnedPositionalEmbedding(keras.layers.Layer, metaclass=ShortHelp):
    """Adds a learned vector of the position to each step.

    Args:
        max_length: Number of positions that have a vector.
        initializer: Initializer of the vectors.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, time, dim)`, or `(batch, dim)` for one step. Their Keras mask is passed on.
        offset: Position of the first step: an int, or an int tensor of shape `()`, or `(batch,)` with one for each row.

    Returns:
        The sum, of the shape of `values`, in the layer's compute dtype.

    Raises:
        ValueError: If an argument has a wrong shape or dtype, the offset is a negative int, or a position is known to
            be outside the table. In a graph that does not know it, the sum is NaN at such a position.

    Example:
        >>> embedding = kseq.layers.LearnedPositionalEmbedding(100)
        >>> embedding(np.zeros((2, 7, 16), "float32")).shape
        (2, 7, 16)
        >>> embedding(np.zeros((2, 16), "float32"), offset=6).shape  # the last of these steps
        (2, 16)

    Reference: J. Gehring et al., "Convolutional sequence to sequence learning", 2017.
    """

    def __init__(self, max_length: int, *, initializer: Any = "uniform", **kwargs: Any):
        super().__init__(**kwargs)
        self.max_length = positive_int(self, "max_length", max_length)
        self.initializer = keras.initializers.get(initializer)
        self.supports_masking = True

    def build(self, values_shape: tuple, offset_shape: Any = None) -> None:
        """Create the table for values `(batch, time, dim)` or `(batch, dim)`."""
        shape = (self.max_length, values_shape[-1])
        self.embeddings = self.add_weight(name="embeddings", shape=shape, initializer=self.initializer)

    def call(self, values: Tensor, offset: Any = 0) -> Tensor:
        """Add the embeddings."""
        check_values("LearnedPositionalEmbedding", values)
        offset = check_offset("LearnedPositionalEmbedding", offset)
        single = len(values.shape) == 2
        steps = values[:, None] if single else values
        summed = steps + self._vectors(positions_of(steps, offset), offset, steps.shape[1])
        return summed[:, 0] if single else summed

    def _vectors(self, positions: Tensor, offset: Any, time: int | None) -> Tensor:
        """Return the vectors of positions `(time,)` or `(batch, time)`, NaN outside of the table."""
        first = known_value(offset)
        if first is not None and time is not None and first.size:
            if first.min() < 0 or first.max() + time > self.max_length:
                raise ValueError(
                    f"LearnedPositionalEmbedding has max_length={self.max_length} positions, but the steps go from "
                    f"position {first.min()} to {first.max() + time - 1}. Give a larger max_length, or shorter rows."
                )
            if first.ndim == 0:
                return self.embeddings[int(first) : int(first) + time]
        vectors = ops.take(self.embeddings, ops.clip(positions, 0, self.max_length - 1), axis=0)
        inside = ops.logical_and(positions >= 0, positions < self.max_length)
        return ops.where(inside[..., None], vectors, ops.cast(math.nan, vectors.dtype))

    def compute_output_shape(self, values_shape: tuple, offset_shape: Any = None) -> tuple:
        """Return the shape of the values."""
        return values_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        initializer = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), "max_length": self.max_length, "initializer": initializer}
