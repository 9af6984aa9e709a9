"""The inputs of a forecaster: windows of series, made ready for the network."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.heads import Head
from kseq.ids import integers
from kseq.masking import mask_from_lengths
from kseq.models.inputs.model_inputs import InputNames
from kseq.models.inputs.row_arrays import with_shape

MOST = 1e30  # of the size of values, whose sums over steps, paths and differences would leave float32 beyond it


class Series(NamedTuple):
    """Windows of series, the context and the target of each row joined in time; `time` is the sum of their steps.

    Attributes:
        values: Float32 `(batch, time, *event_shape)`, or their differences; 0 where they are not known.
        known: Bool `(batch, time)`, the steps whose value is known.
        mask: Bool `(batch, time)`, True at the real steps.
        lengths: int32 `(batch,)`, the number of steps of the context.
        scale: Float32 `(batch,)`, what values are divided by before the network reads them.
        last: Float32 `(batch, *event_shape)`, the last known value of the context, itself and no difference.
        features: Float32 `(batch, time, num_features)`, or None.
        categories: int32 `(batch, n)`, or None.
        numbers: Float32 `(batch, n)`, or None.
        valid: Bool `(batch,)`, the rows that fit the model.
    """

    values: Tensor
    known: Tensor
    mask: Tensor
    lengths: Tensor
    scale: Tensor
    last: Tensor
    features: Tensor | None
    categories: Tensor | None
    numbers: Tensor | None
    valid: Tensor


@dataclass(frozen=True)
class SeriesInputs:
    """How a forecaster reads its inputs.

    Attributes:
        head: The head, which says what a value is.
        num_features: Numbers that are known of each step.
        category_sizes: Number of ids of each category of a series.
        num_numbers: Numbers that are known of each series.
        scaling: Whether values are divided by the mean absolute value of the context.
        difference: Whether the differences of successive values are modelled.
        missing: "refuse" or "mask", what NaN is.
    """

    head: Head
    num_features: int
    category_sizes: tuple[int, ...]
    num_numbers: int
    scaling: bool
    difference: bool
    missing: str

    def names(self) -> InputNames:
        """Return the names of the inputs."""
        return InputNames(
            x="context",
            y="target",
            lengths={"context": "lengths", "target": "target_lengths"},
            aligned={"context_features": "context", "target_features": "target"},
            per_row=("categories", "numbers"),
            numbers=("context", "target"),
            row_shapes=self._row_shapes(),
        )

    def read(self, inputs: Mapping[str, Tensor]) -> Series:
        """Return the rows of `inputs`, in which wrong rows hold zeros."""
        context = self._floats(inputs, "context")
        time = ops.shape(context)[1]
        lengths, valid = _lengths(inputs["lengths"], "lengths", time)
        values, count = context, lengths
        if "target" in inputs:
            target = self._floats(inputs, "target")
            values = ops.concatenate([context, target], axis=1)
            more, fits = _lengths(inputs["target_lengths"], "target_lengths", ops.shape(target)[1])
            valid, count = ops.logical_and(valid, fits), lengths + more
        order = _order(lengths, time, ops.shape(values)[1])
        values = take_steps(values, order)
        mask = mask_from_lengths(count, ops.shape(values)[1])
        features = self._features(inputs, order)
        categories, numbers = self._static(inputs)
        right = self._right(values, mask, features, categories, numbers)
        valid = ops.logical_and(valid, right)
        known = ops.logical_and(mask, self._all(ops.isfinite(values)))
        known = ops.logical_and(known, valid[:, None])
        values = self._zero_unless(values, known)
        inside = ops.logical_and(known, mask_from_lengths(lengths, ops.shape(values)[1]))
        last = _last_known(values, inside)
        if self.difference:
            values, known = self._differences(values, known)
            inside = ops.logical_and(known, inside)
        if features is not None:
            features = ops.where(ops.isfinite(features), features, ops.zeros_like(features))
        if categories is not None:
            categories = ops.clip(categories, 0, np.array(self.category_sizes, "int32") - 1)
        if numbers is not None:
            numbers = ops.where(ops.isfinite(numbers), numbers, ops.zeros_like(numbers))
        scale = self._scale(values, inside)
        return Series(values, known, mask, lengths, scale, last, features, categories, numbers, valid)

    def counted(self, series: Series) -> Tensor:
        """Return which steps have a loss, bool `(batch, time)`: all of a wrong row, so that its loss is NaN.

        A head without samples forecasts all steps of the target from the context: only these have a loss.
        """
        counted = series.mask
        if self.missing == "mask" or self.difference:
            counted = ops.logical_and(counted, series.known)
        if not self.head.can_sample:
            counted = ops.logical_and(counted, steps_of_target(series) > 0)
        return ops.logical_or(counted, ops.logical_not(series.valid)[:, None])

    def has_known(self, series: Series) -> Tensor:
        """Return which rows have a context with a known value, or difference, bool `(batch,)`."""
        return ops.any(ops.logical_and(series.known, steps_of_target(series) < 1), axis=1)

    def weights_of_forecasts(self, series: Series, weights: Tensor | None) -> Tensor:
        """Return `weights` `(batch,)` or `(batch, steps)`, None for 1, with 0 for rows that have no forecast.

        Wrong rows keep their weights, so that a metric of them is NaN.
        """
        counted = ops.cast(ops.logical_or(self.has_known(series), ops.logical_not(series.valid)), "float32")
        if weights is None:
            return counted
        weights = ops.cast(ops.convert_to_tensor(weights), "float32")
        return weights * (counted if len(weights.shape) == 1 else counted[:, None])

    def refusals(self) -> tuple[tuple[str, Callable[[Tensor, Tensor], Tensor]], ...]:
        """Return why contexts of requests are refused that have allowed values, see `StepInputs`."""
        axes = (1, *range(2, 2 + len(self.head.event_shape)))

        def has_huge(values: Tensor, lengths: Tensor) -> Tensor:
            huge = ops.logical_and(ops.isfinite(values), ops.abs(values) > MOST)
            real = mask_from_lengths(lengths, ops.shape(values)[1])
            return ops.any(ops.logical_and(huge, self._spread(real)), axis=axes)

        def has_none(values: Tensor, lengths: Tensor) -> Tensor:
            real = mask_from_lengths(lengths, ops.shape(values)[1])
            known = ops.logical_and(real, ops.logical_not(ops.any(ops.isnan(values), axis=axes[1:])))
            pairs = ops.logical_and(known[:, 1:], known[:, :-1]) if self.difference else known
            return ops.logical_not(ops.any(pairs, axis=1))

        huge = (f"context has a value beyond {MOST:g} in size, whose forecast would leave float32.", has_huge)
        if self.missing != "mask":
            return (huge,)
        none = "no two successive values that are known" if self.difference else "no value that is known"
        return huge, (f"context has {none}: nothing can be forecast from NaN alone.", has_none)

    def labels(self, series: Series) -> Tensor:
        """Return the values, in wrong rows infinity, which no head can have."""
        odd = ops.reshape(series.valid, (-1, *[1] * (len(series.values.shape) - 1)))
        return ops.where(odd, series.values, np.float32(np.inf))

    def truth(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return context and target one after the other, float32 `(batch, time, ...)`, NaN where they are not real."""
        parts = []
        for name, told in (("context", "lengths"), ("target", "target_lengths")):
            values = self._floats(inputs, name)
            mask = mask_from_lengths(integers(inputs[told], told), ops.shape(values)[1])
            finite = ops.logical_and(mask, self._all(ops.isfinite(values)))
            parts.append(ops.where(self._spread(finite), values, np.float32(np.nan)))
        return ops.concatenate(parts, axis=1)

    def _row_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Return the shape of a row of each input that is read; None is any number of steps."""
        shapes: dict[str, tuple[int | None, ...]] = dict.fromkeys(("context", "target"), (None, *self.head.event_shape))
        if self.num_features:
            shapes |= dict.fromkeys(("context_features", "target_features"), (None, self.num_features))
        of_series = {"categories": len(self.category_sizes), "numbers": self.num_numbers}
        return shapes | {name: (count,) for name, count in of_series.items() if count}

    def _floats(self, inputs: Mapping[str, Any], name: str) -> Tensor:
        """Return an input as float32, with the shape that it must have."""
        return with_shape(ops.cast(ops.convert_to_tensor(inputs[name]), "float32"), self._row_shapes()[name], name)

    def _spread(self, mask: Tensor) -> Tensor:
        """Return `(batch, time)` with the axes of a value."""
        return ops.reshape(mask, (*ops.shape(mask), *[1] * len(self.head.event_shape)))

    def _all(self, values: Tensor) -> Tensor:
        """Return `(batch, time)`: whether all numbers of a value are True."""
        return ops.all(values, axis=self.head.event_axes)

    def _zero_unless(self, values: Tensor, kept: Tensor) -> Tensor:
        return ops.where(self._spread(kept), values, ops.zeros_like(values))

    def _features(self, inputs: Mapping[str, Tensor], order: Tensor) -> Tensor | None:
        if not self.num_features:
            return None
        names = ["context_features", *["target_features"] * ("target" in inputs)]
        return take_steps(ops.concatenate([self._floats(inputs, name) for name in names], axis=1), order)

    def _static(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
        categories = integers(inputs["categories"], "categories") if self.category_sizes else None
        if categories is not None:
            categories = with_shape(categories, self._row_shapes()["categories"], "categories")
        return categories, self._floats(inputs, "numbers") if self.num_numbers else None

    def _right(
        self, values: Tensor, mask: Tensor, features: Tensor | None, categories: Tensor | None, numbers: Tensor | None
    ) -> Tensor:
        """Return which rows have values and covariates that they may have, bool `(batch,)`."""
        right = ops.isfinite(values) if self.difference else self.head.supports(values)
        right = ops.logical_and(right, ops.abs(values) <= MOST)
        if self.missing == "mask":
            right = ops.logical_or(right, ops.isnan(values))
        right = ops.all(ops.logical_or(self._all(right), ops.logical_not(mask)), axis=1)
        if features is not None:
            finite = ops.logical_or(ops.all(ops.isfinite(features), axis=-1), ops.logical_not(mask))
            right = ops.logical_and(right, ops.all(finite, axis=1))
        if categories is not None:
            sizes = np.array(self.category_sizes, "int32")
            right = ops.logical_and(right, ops.all(ops.logical_and(categories >= 0, categories < sizes), axis=1))
        return right if numbers is None else ops.logical_and(right, ops.all(ops.isfinite(numbers), axis=1))

    def _differences(self, values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Return the differences of successive values, and whether both values are known; the first one is not."""
        before, known_before = shifted(values), ops.cast(shifted(ops.cast(known, "int32")), "bool")
        known = ops.logical_and(known, known_before)
        return self._zero_unless(values - before, known), known

    def _scale(self, values: Tensor, inside: Tensor) -> Tensor:
        """Return the mean absolute value of the known steps of the context; 1 if that is 0."""
        if not self.scaling:
            return ops.ones(ops.shape(values)[:1], "float32")
        total = ops.sum(ops.abs(self._zero_unless(values, inside)), axis=1)
        scale = ops.divide_no_nan(total, ops.sum(ops.cast(inside, "float32"), axis=1))
        return ops.where(scale > 0, scale, ops.ones_like(scale))


def joined_inputs(
    before: Tensor, scale: Tensor, flags: list, features: Tensor | None, static: list[Tensor], dtype: str
) -> Tensor:
    """Return the network's inputs of steps, `(batch, time, n)` in `dtype`.

    Args:
        before: The value before each step, float32 `(batch, time, *event_shape)`.
        scale: What values are divided by, float32 `(batch, 1)`.
        flags: Numbers of each step `(batch, time)`, or None.
        features: Covariates of each step, `(batch, time, num_features)`, or None.
        static: Covariates of each series, `(batch, n)` each.
        dtype: The precision of the network.
    """
    steps, width = ops.shape(before)[:2], math.prod(before.shape[2:])
    parts = [ops.reshape(before, (*steps, width)) / scale[..., None]]
    parts += [each[..., None] for each in flags if each is not None]
    parts += [] if features is None else [features]
    parts += [ops.broadcast_to(each[:, None], (*steps, each.shape[-1])) for each in static]
    return ops.concatenate([ops.cast(part, dtype) for part in parts], axis=-1)


def without_target(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of the context, and of the series."""
    return {name: value for name, value in inputs.items() if not name.startswith("target")}


def shifted(values: Tensor) -> Tensor:
    """Return `values` `(batch, time, ...)` one step later, with 0 as the first step."""
    return ops.concatenate([ops.zeros_like(values[:, :1]), values[:, :-1]], axis=1)


def steps_of_target(series: Series) -> Tensor:
    """Return the number of each step in the target, from 1, int32 `(batch, time)`; 0 and less in the context."""
    return ops.arange(ops.shape(series.mask)[1], dtype="int32") - series.lengths[:, None] + 1


def take_steps(values: Tensor, index: Tensor) -> Tensor:
    """Return the steps `index` int `(batch, n)` of `values` `(batch, time, ...)`."""
    batch, time, *rest = ops.shape(values)
    flat = ops.reshape(values, (batch * time, *rest))
    rows = ops.arange(batch, dtype="int32")[:, None] * time
    return ops.take(flat, rows + index, axis=0)


def _order(lengths: Tensor, time: Any, total: Any) -> Tensor:
    """Return the places of a row's steps, so that its target follows its context, int32 `(batch, total)`."""
    step = ops.arange(total, dtype="int32")[None]
    behind = ops.minimum(step - lengths[:, None] + time, total - 1)
    return ops.where(step < lengths[:, None], step, behind)


def _lengths(lengths: Any, name: str, time: Any) -> tuple[Tensor, Tensor]:
    """Return lengths that fit, and whether they are the given ones."""
    given = integers(lengths, name)
    inside = ops.clip(given, 0, time)
    return inside, ops.equal(given, inside)


def _last_known(values: Tensor, inside: Tensor) -> Tensor:
    """Return the value of the last step at which `inside` is True, `(batch, ...)`; if there is none, of the first."""
    step = ops.arange(ops.shape(inside)[1], dtype="int32")
    last = ops.max(ops.where(inside, step, 0), axis=1, initial=0)
    return take_steps(values, last[:, None])[:, 0]
