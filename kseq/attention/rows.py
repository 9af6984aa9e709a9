"""Rows of decoding steps: the hypotheses of each source, without repeating the source."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kseq import backend
from kseq.backend import Tensor


def split_rows(tensor: Tensor, batch: Any) -> Tensor:
    """Return `tensor` `(rows, ...)` as `(batch, hypotheses, ...)`, rows = batch x hypotheses."""
    rows, *shape = ops.shape(tensor)
    return ops.reshape(tensor, (batch, _hypotheses(rows, batch), *shape))


def join_rows(tensor: Tensor) -> Tensor:
    """Return `tensor` `(batch, hypotheses, ...)` as `(rows, ...)`."""
    batch, hypotheses, *shape = ops.shape(tensor)
    return ops.reshape(tensor, (batch * hypotheses, *shape))


def repeat_for_rows(values: Tensor, rows: Any) -> Tensor:
    """Return `values` `(batch, dim)` repeated for every hypothesis, `(rows, dim)`."""
    batch, dim = ops.shape(values)
    repeated = ops.broadcast_to(values[:, None], (batch, _hypotheses(rows, batch), dim))
    return ops.reshape(repeated, (rows, dim))


def scan_queries(
    step: Callable[[Any, Any], tuple[Any, Tensor]], state: Any, inputs: Any, time: Any, dtype: str
) -> tuple[Tensor, Any]:
    """Return the weights `(batch, queries, time)` of queries one after the other, and the last state.

    Args:
        step: `(state, inputs) -> (state, weights)` of one query, `(batch, ...)` each.
        state: The state before the first query.
        inputs: A nest of tensors `(batch, queries, ...)`.
        time: Number of steps of the memory.
        dtype: Dtype of the weights, for the answer to no query.
    """
    batch, queries = keras.tree.flatten(inputs)[0].shape[:2]
    if queries == 0:  # of which a loop on TensorFlow could not know the shape of the weights
        rows = ops.shape(keras.tree.flatten(inputs)[0])[0] if batch is None else batch
        return ops.zeros((rows, 0, time), dtype=dtype), state
    inputs = keras.tree.map_structure(lambda x: ops.swapaxes(x, 0, 1), inputs)
    state, weights = backend.scan(step, state, inputs)
    return ops.swapaxes(weights, 0, 1), state


def _hypotheses(rows: Any, batch: Any) -> Any:
    """Return the number of hypotheses per source."""
    if isinstance(rows, int) and isinstance(batch, int):
        return rows // max(batch, 1)
    return rows // ops.maximum(batch, 1)
