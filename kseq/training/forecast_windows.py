"""Training windows of series."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kseq.models.inputs.token_checks import integer_array
from kseq.numbers import whole


def forecast_windows(
    series: Any,
    context: int,
    horizon: int,
    *,
    stride: int = 1,
    count: int | None = None,
    seed: int | None = None,
    features: Any = None,
    categories: Any = None,
    numbers: Any = None,
) -> dict[str, np.ndarray]:
    """Return the rows of a `kseq.models.Forecaster`: windows of series, each with a context and what follows it.

    Args:
        series: Float `(series, time)`, or a list of arrays `(time,)` of different lengths; of values that are vectors
            `(time, ...)` each. NaN is a missing value.
        context: Number of steps of the context.
        horizon: Number of steps of the target.
        stride: Number of steps from a window to the next. The last window of a series ends with it.
        count: Number of windows, drawn at random from all of all series; None: every one.
        seed: Seed of the draw.
        features: For each series numbers of each step, an array `(time, num_features)`.
        categories: For each series its ids of categories, int `(series, n)`.
        numbers: For each series its numbers, float `(series, num_numbers)`.

    Returns:
        A dict of arrays: `context` float32 `(rows, context)` and `target` `(rows, horizon)`, their lengths, and the
        covariates of each row. The windows of a series are in the order of time, unless they are drawn.

    Raises:
        ValueError: If no series has `context + horizon` steps, a number is out of range, or covariates do not fit.

    Example:
        >>> rows = kseq.training.forecast_windows(np.arange(6.0)[None], context=3, horizon=2)
        >>> rows["context"].tolist(), rows["target"].tolist()
        ([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]], [[3.0, 4.0], [4.0, 5.0]])
    """
    context, horizon, stride = (
        _positive(*pair) for pair in (("context", context), ("horizon", horizon), ("stride", stride))
    )
    arrays = _arrays(series, "series")
    places = [
        (index, start)
        for index, values in enumerate(arrays)
        for start in range((len(values) - context - horizon) % stride, len(values) - context - horizon + 1, stride)
    ]
    if not places:
        longest = max((len(values) for values in arrays), default=0)
        raise ValueError(f"No series has context + horizon = {context} + {horizon} steps: the longest has {longest}.")
    if count is not None:
        random = np.random.default_rng(None if seed is None else whole("seed", seed))
        places = [places[index] for index in random.integers(len(places), size=_positive("count", count))]
    rows = {"context": _cut(arrays, places, 0, context), "target": _cut(arrays, places, context, horizon)}
    rows["lengths"] = np.full(len(places), context, "int32")
    rows["target_lengths"] = np.full(len(places), horizon, "int32")
    if features is not None:
        of_steps = _arrays(features, "features")
        if [len(each) for each in of_steps] != [len(values) for values in arrays]:
            raise ValueError("features must have numbers of each step of each series, but their lengths differ.")
        rows["context_features"] = _cut(of_steps, places, 0, context)
        rows["target_features"] = _cut(of_steps, places, context, horizon)
    index = np.array([index for index, _ in places])
    for name, given, dtype in (("categories", categories, "int32"), ("numbers", numbers, "float32")):
        if given is not None:
            table = integer_array(given, name) if dtype == "int32" else np.asarray(given)
            if table.ndim != 2 or len(table) != len(arrays):
                raise ValueError(
                    f"{name} has shape {table.shape}, but expected ({len(arrays)}, n), a row for each series."
                )
            rows[name] = table[index].astype(dtype)
    return rows


def _positive(name: str, value: Any) -> int:
    number = whole(name, value)
    if number < 1:
        raise ValueError(f"{name}={number}, but it must be at least 1.")
    return number


def _arrays(series: Any, name: str) -> list[np.ndarray]:
    arrays = [np.asarray(each, "float32") for each in series]
    if any(not each.ndim for each in arrays):
        raise ValueError(f"{name} is one series, but expected several. Give a list of it, or {name}[None].")
    return arrays


def _cut(arrays: Sequence[np.ndarray], places: Sequence[tuple[int, int]], begin: int, steps: int) -> np.ndarray:
    return np.stack([arrays[index][start + begin : start + begin + steps] for index, start in places])
