"""Poolings: one vector for each row of a padded sequence."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.attention.attention import masked_softmax
from kseq.backend import Tensor
from kseq.masking import align_mask, check_mask, implicit_mask, refuse_ragged, zero_padding
from kseq.numbers import flag, positive_int
from kseq.short_help import ShortHelp


@keras.saving.register_keras_serializable(package="kseq")
class SequencePooling(keras.layers.Layer, metaclass=ShortHelp):
    """Makes one vector of each row of a sequence, from its real steps alone.

    With h_t the values at the T real steps of a row, the vector is, by `pooling`:

    - `"last"`: h_T; with `bidirectional` the first half of h_T and the second half of h_1, which are what the two
      directions of a `Bidirectional` layer return after their last step;
    - `"sum"`: the sum of all h_t;
    - `"mean"`: the sum divided by T;
    - `"max"`: the largest value in each dimension;
    - `"attention"`: the weighted mean of all h_t by learned weights (Z. Yang et al.):

          u_t = tanh(W h_t + b),   a = softmax_t(q . u_t),   sum of a_t h_t

    Padding, NaN included, changes neither outputs nor gradients. A row without a real step gives zeros. Sums and the
    softmax are computed in float32, or float64 in a float64 layer.

    Args:
        pooling: One of the names above.
        bidirectional: Whether the halves of the values were read in the two directions; only for "last".
        units: Size of u_t and of the query q, only for "attention". None: the size of h_t.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, time, dim)`.
        mask: Bool `(batch, time)`, True at the real steps. None: the implicit Keras mask of the values, if they have
            one; otherwise all steps are real.

    Returns:
        Float `(batch, dim)`, in the layer's compute dtype.

    Raises:
        ValueError: If the pooling is unknown, an option does not apply to it, or values or mask have a wrong shape or
            are ragged.

    Example:
        >>> ids = keras.Input((None,), dtype="int32")
        >>> values = keras.layers.Embedding(5000, 64, mask_zero=True)(ids)
        >>> values = kseq.layers.Bidirectional(kseq.layers.GRU(32, return_sequences=True))(values)
        >>> kseq.layers.SequencePooling("attention")(values).shape
        (None, 64)

    Reference: Z. Yang et al., "Hierarchical attention networks for document classification", 2016 (its attention over
    words).
    """

    def __init__(self, pooling: str = "last", *, bidirectional: bool = False, units: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling!r}, but it must be one of {POOLINGS}.")
        self.pooling, self.bidirectional = pooling, flag("bidirectional", bidirectional)
        self.units = None if units is None else positive_int(self, "units", units)
        if self.bidirectional and pooling != "last":
            raise ValueError(
                f"bidirectional=True applies to pooling='last', but pooling={pooling!r} treats all dimensions alike. "
                "Leave it out."
            )
        if units is not None and pooling != "attention":
            raise ValueError(f"units={units} applies to pooling='attention', but pooling={pooling!r}. Leave it out.")
        self.supports_masking = True  # the mask is used, and the output has none

    def build(self, values_shape: tuple) -> None:
        """Create the weights of the attention."""
        dim = values_shape[-1] if len(values_shape) == 3 else None
        if dim is None or (self.bidirectional and dim % 2):
            halves = " and an even dim" if self.bidirectional else ""
            raise ValueError(
                f"SequencePooling needs values (batch, time, dim) with a static dim{halves}, but they have the shape "
                f"{tuple(values_shape)}."
            )
        if self.pooling == "attention":
            units = self.units or dim
            self.kernel = self.add_weight(name="kernel", shape=(dim, units))
            self.bias = self.add_weight(name="bias", shape=(units,), initializer="zeros")
            self.query = self.add_weight(name="query", shape=(units,), initializer=_QUERY)

    def call(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool the values of each row."""
        refuse_ragged(values, "SequencePooling")
        mask = check_mask(implicit_mask(values) if mask is None else mask, values)
        if mask is None:
            mask = ops.ones(ops.shape(values)[:2], dtype="bool")
        precise = ops.cast(values, keras.backend.result_type(values.dtype, "float32"))
        pooled = self._pool()(zero_padding(precise, mask), mask)
        return ops.cast(pooled, self.compute_dtype)

    def _pool(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the function from values, zero in the padding, and their mask to one vector for each row."""
        return {"last": self._last, "sum": _sum, "mean": _mean, "max": _max, "attention": self._attention}[self.pooling]

    def _last(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return the values at the last real step; with `bidirectional`, their second half at the first one."""
        if not self.bidirectional:
            return _at(_last_step(mask), values)
        forward, backward = ops.split(values, 2, axis=-1)  # (batch, time, dim / 2)
        return ops.concatenate([_at(_last_step(mask), forward), _at(_first_step(mask), backward)], axis=-1)

    def _attention(self, values: Tensor, mask: Tensor) -> Tensor:
        projected = ops.matmul(ops.cast(values, self.compute_dtype), self.kernel) + self.bias
        scores = ops.sum(ops.cast(ops.tanh(projected) * self.query, values.dtype), axis=-1)  # (batch, time)
        weights = masked_softmax(scores[:, None], mask)[:, 0]
        return ops.sum(weights[..., None] * values, axis=1)

    def compute_mask(self, values: Tensor, previous_mask: Any = None) -> None:
        """Return None: there are no steps left."""

    def compute_output_shape(self, values_shape: tuple) -> tuple:
        """Return the shape of the output."""
        return (values_shape[0], values_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = {"pooling": self.pooling, "bidirectional": self.bidirectional, "units": self.units}
        return {**super().get_config(), **own}


POOLINGS = ("last", "sum", "mean", "max", "attention")
_QUERY = keras.initializers.RandomUniform(-0.05, 0.05)  # small: at first, all steps have nearly equal weights


def _sum(values: Tensor, mask: Tensor) -> Tensor:
    return ops.sum(values, axis=1)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    count = ops.sum(ops.cast(mask, values.dtype), axis=1, keepdims=True)
    return ops.sum(values, axis=1) / ops.maximum(count, 1)


def _max(values: Tensor, mask: Tensor) -> Tensor:
    largest = ops.max(ops.where(align_mask(mask, values), values, -np.inf), axis=1, initial=-np.inf)
    return zero_padding(largest, ops.any(mask, axis=1))


def _at(step: Tensor, values: Tensor) -> Tensor:
    """Return `values` `(batch, time, dim)` at a step of each row, where `step` bool `(batch, time)` is True."""
    return ops.sum(zero_padding(values, step), axis=1)


def _last_step(mask: Tensor) -> Tensor:
    number = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    return ops.logical_and(mask, number == ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True))


def _first_step(mask: Tensor) -> Tensor:
    return ops.logical_and(mask, ops.cumsum(ops.cast(mask, "int32"), axis=1) == 1)
