"""Batches without rows, which TensorFlow's convolutions give a wrong shape."""

from collections.abc import Callable

from keras import ops

from kseq.backend import Tensor


def with_rows(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Return `function(*tensors)`, which gets a row of zeros if there is none; its output has no row then.

    Args:
        function: Its output has as many rows as its inputs.
        *tensors: `(batch, ...)` each.
    """
    rows = tensors[0].shape[0]
    if rows is not None and rows > 0:
        return function(*tensors)
    rows = ops.shape(tensors[0])[0]
    missing = ops.cast(ops.equal(rows, 0), "int32")
    padded = (ops.pad(tensor, [(0, missing), *[(0, 0)] * (len(tensor.shape) - 1)]) for tensor in tensors)
    return function(*padded)[:rows]
