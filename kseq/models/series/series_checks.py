"""Checks of arrays of series and of what is known about them."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kseq.heads import Head
from kseq.ids import check_lengths
from kseq.losses import NegativeLogLikelihood
from kseq.models.inputs.token_checks import integer_array
from kseq.models.series.series_inputs import MOST, SeriesInputs
from kseq.numbers import whole


def check_series(inputs: Any, reads: SeriesInputs, *, with_target: bool) -> None:
    """Check the arrays of a forecaster.

    Args:
        inputs: A dict of arrays, see `Forecaster`.
        reads: How the model reads them.
        with_target: Whether the target must be there.

    Raises:
        ValueError: If an array is missing or not used, has a wrong shape or dtype, or a value, length or category is
            not one that the model knows.
    """
    sequences = ["context", *["target"] * (with_target or (isinstance(inputs, Mapping) and "target" in inputs))]
    wanted = [name for each in sequences for name in (each, *[f"{each}_features"] * bool(reads.num_features))]
    wanted += ["categories"] * bool(reads.category_sizes) + ["numbers"] * bool(reads.num_numbers)
    if not isinstance(inputs, Mapping) or any(name not in inputs for name in wanted):
        came = sorted(inputs) if isinstance(inputs, Mapping) else f"a {type(inputs).__name__}"
        raise ValueError(f"The inputs must be a dict of {wanted} and lengths, but they are {came}.")
    if unused := sorted({*COVARIATES, "target_features"} & set(inputs) - set(wanted)):
        raise ValueError(
            f"The inputs have {unused}, which this model does not read. Leave them out, or create the model with "
            "num_features, category_sizes or num_numbers."
        )
    rows = len(np.asarray(inputs["context"]))
    if not rows:
        raise ValueError("The batch is empty. Give at least one series.")
    for name in sequences:
        lengths = "lengths" if name == "context" else "target_lengths"
        _check_values(name, numbers_of(inputs[name], name), inputs[lengths], lengths, reads, rows)
        if reads.num_features:
            told = integer_array(inputs[lengths], lengths)
            _check_features(inputs, f"{name}_features", np.shape(inputs[name])[1], told, reads)
    _check_static(inputs, reads, rows)


COVARIATES = ("context_features", "categories", "numbers")


def numbers_of(values: Any, name: str) -> np.ndarray:
    """Return an array of numbers, or raise ValueError if it is none."""
    array = np.asarray(values)
    if array.dtype.kind not in "iufb" and array.dtype.name != "bfloat16":
        raise ValueError(f"The values of {name} have dtype {array.dtype}, but they must be numbers.")
    return array


def _check_values(name: str, values: np.ndarray, lengths: Any, told: str, reads: SeriesInputs, rows: int) -> None:
    head, lengths = reads.head, integer_array(lengths, told)
    expected = ("batch", "time", *head.event_shape)
    if values.ndim != len(expected) or values.shape[2:] != head.event_shape or lengths.shape != (rows,):
        raise ValueError(
            f"{name} must be ({', '.join(map(str, expected))}) and {told} (batch,), with {rows} rows, but their shapes "
            f"are {values.shape} and {lengths.shape}."
        )
    if len(values) != rows:
        raise ValueError(f"{name} has {len(values)} rows, but context has {rows}.")
    check_lengths(lengths, values.shape[1], told, name)
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(values) <= MOST)  # also not NaN
    if not reads.difference:
        with np.errstate(invalid="ignore"):
            wrong |= False if not head.whole else np.round(values) != values
            wrong |= False if head.lowest is None else values < head.lowest
            wrong |= False if head.highest is None else values > head.highest
    if reads.missing == "mask":
        wrong &= ~np.isnan(values)
    real = np.arange(values.shape[1]) < lengths[:, None]
    wrong &= real.reshape(*real.shape, *[1] * len(head.event_shape))
    if wrong.any():
        place = tuple(int(axis) for axis in np.argwhere(wrong)[0])
        kind = "a finite number" if reads.difference else head.support
        kind += f", and at most {MOST:g} in size" if MOST < abs(values[place]) < np.inf else ""
        raise ValueError(
            f"{name}{list(place)} = {values[place]}, but a value of this model, whose head is {head!r}, is {kind}. "
            'Repair the series; if NaN stands for a missing value, create the model with missing="mask".'
        )


def _check_features(inputs: Mapping[str, Any], name: str, time: int, lengths: np.ndarray, reads: SeriesInputs) -> None:
    features = numbers_of(inputs[name], name)
    expected = (len(lengths), time, reads.num_features)
    if features.shape != expected:
        raise ValueError(f"{name} has shape {features.shape}, but expected {expected}: num_features for each step.")
    wrong = ~np.isfinite(features) & (np.arange(time) < lengths[:, None])[..., None]
    if wrong.any():
        place = tuple(int(axis) for axis in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name}{list(place)} = {features[place]}, but features must be finite. Repair or drop the row."
        )


def _check_static(inputs: Mapping[str, Any], reads: SeriesInputs, rows: int) -> None:
    if reads.category_sizes:
        ids = integer_array(inputs["categories"], "categories")
        if ids.shape != (rows, len(reads.category_sizes)):
            raise ValueError(f"categories has shape {ids.shape}, but expected {(rows, len(reads.category_sizes))}.")
        wrong = (ids < 0) | (ids >= np.array(reads.category_sizes))
        if wrong.any():
            row, column = (int(axis) for axis in np.argwhere(wrong)[0])
            raise ValueError(
                f"categories[{row}, {column}] = {ids[row, column]}, but that category has ids 0 to "
                f"{reads.category_sizes[column] - 1}. Number them from 0, or increase the model's category_sizes."
            )
    if reads.num_numbers:
        numbers = numbers_of(inputs["numbers"], "numbers")
        if numbers.shape != (rows, reads.num_numbers) or not np.isfinite(numbers).all():
            raise ValueError(
                f"numbers has shape {numbers.shape}, but must be finite numbers of shape {(rows, reads.num_numbers)}."
            )


def check_head(head: Any, scaling: bool | None, difference: bool, levels: tuple[float, ...]) -> None:
    """Raise ValueError if the head of a forecaster is none, or the options do not fit it."""
    if not isinstance(head, Head):
        raise ValueError(f"head={head!r}, but it must be a head, such as kseq.heads.StudentT().")
    if scaling and not head.can_scale:
        raise ValueError(f"scaling=True, but the values of {head!r} cannot be scaled. Leave scaling out.")
    if difference and (head.whole or not head.can_sample):
        raise ValueError(
            f"difference=True needs a head of numbers of either sign that has samples, but got {head!r}. Give such as "
            "kseq.heads.StudentT()."
        )
    if not head.can_sample:
        head.checked_levels(np.array(levels))


def check_compiled(loss: Any, metrics: Any, head: Head, levels: tuple[float, ...]) -> None:
    """Raise ValueError if a forecaster cannot be trained by the loss, or a metric has other levels of quantiles."""
    if not isinstance(loss, NegativeLogLikelihood) or loss.head != head or not loss.stacked:
        raise ValueError(
            f"The loss is {loss!r}, but a Forecaster is trained by the likelihood of its head, {head!r}. Leave loss "
            "out, or give kseq.losses.NegativeLogLikelihood(model.head, stacked=True, ...)."
        )
    for metric in keras.tree.flatten([] if metrics is None else metrics):
        if getattr(metric, "levels", levels) != levels:
            raise ValueError(
                f"The metric {metric.name} has the levels {metric.levels}, but the model {levels}. Give the metric "
                "levels=model.levels."
            )


def count(name: str, value: Any) -> int:
    """Return a number of covariates as an int, or raise ValueError unless it is a whole number of at least 0."""
    number = whole(name, value)
    if number < 0:
        raise ValueError(f"{name}={number}, but it is a number of covariates: at least 0.")
    return number
