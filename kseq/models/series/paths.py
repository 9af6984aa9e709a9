"""Sample paths: a forecaster's own samples, fed back step by step."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from kseq.backend import Tensor, scan
from kseq.heads import Head
from kseq.threefry import Words, row_keys, threefry


class Forecast(NamedTuple):
    """The answer of a forecaster; `horizon` is the number of steps.

    Attributes:
        quantiles: Float32 `(batch, horizon, *event_shape, levels)`.
        mean: Float32 `(batch, horizon, *event_shape)`; None for a head without samples.
        paths: Float32 `(batch, num_paths, horizon, *event_shape)`, the samples; None for a head without samples.
    """

    quantiles: Any
    mean: Any
    paths: Any


def sample_paths(
    step: Callable[[Any, Tensor, Any], tuple[Any, Any]],
    states: Any,
    first: Tensor,
    features: Any,
    *,
    head: Head,
    horizon: Any,
    num_paths: int,
    seed: Any,
) -> Tensor:
    """Return paths drawn from a model, float32 `(batch, num_paths, horizon, *event_shape)`.

    A sample is a function of its row's seed, its path and its step, and of the parameters.

    Args:
        step: `(states, previous, features) -> (states, parameters)` of rows, batch x paths, one row's side by side.
        states: A nest of tensors `(batch, ...)`, the states after the context.
        first: Float32 `(batch, *event_shape)`, the value before the first step.
        features: Tensors `(batch, horizon, ...)`, a nest of them, perhaps empty.
        head: The head whose distributions the step returns.
        horizon: Number of steps.
        num_paths: Number of paths of each row.
        seed: An int, or int `(batch,)`, one for each row.
    """
    batch = ops.shape(first)[0]
    keys = Words(*(repeat_rows(word, num_paths) for word in row_keys(seed, batch)))
    path = ops.broadcast_to(ops.arange(num_paths, dtype="int32"), (batch, num_paths))
    path = ops.cast(ops.reshape(path, (-1,)), "uint32")

    def draw(carry: tuple[Any, Tensor], at: tuple[Tensor, Any]) -> tuple[tuple[Any, Tensor], Tensor]:
        (states, previous), (time, features) = carry, at
        states, parameters = step(states, previous, [repeat_rows(each, num_paths) for each in features])
        key = threefry(keys, Words(ops.cast(time, "uint32") + ops.zeros_like(path), path))
        drawn = head.sample(parameters, key)
        return (states, drawn), drawn

    carry = tree.map_structure(lambda x: repeat_rows(x, num_paths), (states, first))
    in_time = [ops.swapaxes(each, 0, 1) for each in features]
    _, drawn = scan(draw, carry, (ops.arange(horizon, dtype="int32"), in_time))  # (horizon, rows, *event_shape)
    drawn = ops.reshape(drawn, (horizon, batch, num_paths, *head.event_shape))
    return ops.moveaxis(drawn, 0, 2)


def quantiles_of_paths(paths: Tensor, levels: Sequence[float]) -> Tensor:
    """Return quantiles of paths `(batch, num_paths, ...)`, `(batch, ..., levels)`, interpolated as by `np.quantile`."""
    count = paths.shape[1]
    ordered = ops.sort(paths, axis=1)
    columns = []
    for level in levels:
        place = level * (count - 1)
        low, share = int(place), np.float32(place - int(place))
        columns.append(ordered[:, low] + share * (ordered[:, min(low + 1, count - 1)] - ordered[:, low]))
    return ops.stack(columns, axis=-1)


def repeat_rows(values: Tensor, count: int) -> Tensor:
    """Return each row of `values` `count` times, side by side."""
    return ops.repeat(values, count, axis=0)
