"""Sizes to which tensors are padded, so that compiled code meets few shapes."""

from typing import Any

import numpy as np
from keras import ops

from kseq import backend
from kseq.backend import Tensor

HIGHEST_POWER = 24  # of two; larger sizes are not padded


def _sizes(*, places: int, least: int) -> np.ndarray:
    """Return the sizes from `least` on with at most `places` binary places: 40 = 0b101000 has 3."""
    leading = range(1, 2**places)
    sizes = {each << power for each in leading for power in range(HIGHEST_POWER)}
    return np.array(sorted(size for size in sizes if size >= least), "int32")


_FINE, _COARSE = (_sizes(places=places, least=16) for places in (3, 2))  # at most a quarter, or half, more
# Rows that are padding take time, but among the first 16 little, and the last batch of an epoch has any number of rows.
ROWS = np.concatenate([np.array([1, 4, 8], "int32"), _FINE])
LABELS = np.concatenate([np.array([1, 2, 4, 8], "int32"), _COARSE])
FRAMES = np.concatenate([np.array([1, 8], "int32"), _COARSE])
# Padding of steps takes memory, but no time where the loop ends before it.
STEPS = _sizes(places=1, least=16)


def fixed_size(values: Tensor, axis: int) -> int | None:
    """Return a size that is the same at each run of this code, or None: in an eager call it is that of the call."""
    return None if backend.runs_eagerly() else values.shape[axis]


def padded_size(size: int | Tensor, sizes: np.ndarray = ROWS) -> Any:
    """Return the smallest of `sizes` that is not below `size`, an int or int32 scalar, as the same kind."""
    if isinstance(size, int):
        return max(size, int(sizes[min(np.searchsorted(sizes, size), len(sizes) - 1)]))
    index = ops.searchsorted(sizes, ops.reshape(size, (1,)))[0]
    return ops.maximum(ops.take(sizes, ops.minimum(index, len(sizes) - 1)), size)


def pad(values: Tensor, axis: int, size: int | Tensor) -> Tensor:
    """Return `values` with zeros (or False) added along an axis until it has the given size."""
    if values.shape[axis] is not None and isinstance(size, int) and values.shape[axis] == size:
        return values
    widths: list[list] = [[0, 0] for _ in values.shape]
    widths[axis][1] = size - ops.shape(values)[axis]
    return ops.pad(values, widths)


def pad_unknown(values: Tensor, axis: int, sizes: np.ndarray = ROWS) -> Tensor:
    """Return `values` padded along an axis, unless its size is the same at each run."""
    if fixed_size(values, axis) is not None:
        return values
    return pad(values, axis, padded_size(ops.shape(values)[axis], sizes))
