"""Rows of decoding steps: the hypotheses of each source, without repeating the source."""

from typing import Any

from keras import ops

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


def _hypotheses(rows: Any, batch: Any) -> Any:
    """Return the number of hypotheses per source."""
    if isinstance(rows, int) and isinstance(batch, int):
        return rows // max(batch, 1)
    return rows // ops.maximum(batch, 1)
