"""Sizes to which tensors are padded, so that compiled code meets few shapes."""

import numpy as np
from keras import ops

from kseq.backend import Tensor

HIGHEST_POWER = 24  # of two; larger sizes are not padded


def _sizes(*, places: int, least: int) -> np.ndarray:
    """Return the sizes from `least` on with at most `places` binary places: 40 = 0b101000 has 3."""
    leading = range(1, 2**places)
    sizes = {each << power for each in leading for power in range(HIGHEST_POWER)}
    return np.array(sorted(size for size in sizes if size >= least), "int32")


_FINE = _sizes(places=3, least=16)  # at most a quarter more than the real size
# Rows that are padding take time, but among the first 16 little, and the last batch of an epoch has any number of rows.
ROWS = np.concatenate([np.array([1, 4, 8], "int32"), _FINE])
LABELS = np.concatenate([np.array([1, 2, 4, 8, 12], "int32"), _FINE])
# Padding of steps takes memory, but no time where the loop ends before it.
STEPS = _sizes(places=1, least=16)


def padded_size(size: Tensor, sizes: np.ndarray = ROWS) -> Tensor:
    """Return the smallest of `sizes` that is not below the int32 scalar `size`."""
    index = ops.searchsorted(sizes, ops.reshape(size, (1,)))[0]
    return ops.maximum(ops.take(sizes, ops.minimum(index, len(sizes) - 1)), size)


def pad(values: Tensor, axis: int, size: int | Tensor) -> Tensor:
    """Return `values` with zeros (or False) added along an axis until it has the given size."""
    if values.shape[axis] is not None and values.shape[axis] == size:
        return values
    widths: list[list] = [[0, 0] for _ in values.shape]
    widths[axis][1] = size - ops.shape(values)[axis]
    return ops.pad(values, widths)


def pad_unknown(values: Tensor, axis: int, sizes: np.ndarray = ROWS) -> Tensor:
    """Return `values` padded along an axis if its size is known only when the graph runs."""
    if values.shape[axis] is not None:
        return values
    return pad(values, axis, padded_size(ops.shape(values)[axis], sizes))
