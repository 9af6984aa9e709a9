"""Arrays of a batch, merged from those of its requests and split again.

Padding is TensorFlow Serving's: a shorter array is padded with its own first element, and a batch below an allowed
size is filled up with the first row of its last request. Unlike there, it is bounded: a request of some bytes may hold
enormous rows, since its tensors are filled from one value. Only rows of similar sizes share a batch, and a batch whose
filling up would take too much memory runs with its own rows.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from kseq_serving.errors import Code, FailedPreconditionError, InvalidArgumentError, ServingError
from kseq_serving.protocol.dtypes import dtype_name, dtype_of

MAX_PADDED_RANK = 6
MAX_PADDING_BYTES = 1 << 28  # of a batch, above which it is not filled up, or its requests are run apart
MAX_GROWTH_BYTES = 1 << 20  # of an array that is padded, if more than `MAX_GROWTH` times its size
MAX_GROWTH = 8
SMALL_SIZE = 64  # of a dimension; smaller ones are padded up to it
SMALL_ROW = 1 << 13  # elements, up to which a row is small

Arrays = Mapping[str, np.ndarray]


def count_rows(feeds: Arrays) -> int:
    """Return the number of rows, which all arrays must share.

    Raises:
        InvalidArgumentError: If there are no arrays, or an array has no rows or another number of them.
    """
    if not feeds:
        raise InvalidArgumentError("Batching Run() must have at least one input tensor")
    rows = None
    for array in feeds.values():
        if not array.ndim:
            raise InvalidArgumentError("Batching Run() input tensors must have at least one dimension")
        if rows not in (None, len(array)):
            raise InvalidArgumentError("Batching Run() input tensors must have equal 0th-dimension size")
        rows = len(array)
    return rows or 0


def kind(feeds: Arrays, *, pad_inputs: bool) -> Hashable:
    """Return a key that is the same for requests whose arrays can be merged.

    Args:
        feeds: Arrays of a request.
        pad_inputs: Whether arrays of different shapes are padded to a common one. Then rows may share a batch if they
            are small, or if each of their dimensions has the same next power of two.
    """
    if pad_inputs:
        return tuple(
            (name, feeds[name].dtype, _size_class(feeds[name].shape[1:]), not feeds[name].size)
            for name in sorted(feeds)
        )
    return tuple((name, feeds[name].dtype, feeds[name].shape[1:]) for name in sorted(feeds))


def merge(requests: Sequence[Arrays], padding_rows: int, *, pad_inputs: bool) -> dict[str, np.ndarray]:
    """Merge the arrays of several requests into those of a batch.

    Args:
        requests: Arrays of each request, all with the same names.
        padding_rows: Number of rows to add at the end; none are added where they exceed `MAX_PADDING_BYTES`, together
            with the padding of shorter arrays.
        pad_inputs: Whether to pad arrays of different shapes to a common one.

    Raises:
        ServingError: If the arrays cannot be concatenated.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in sorted(requests[0])}
    shapes = {name: _largest(name, [arrays[name] for arrays in requests]) for name in parts} if pad_inputs else {}
    padding_bytes = _check_padding(requests, shapes)
    for arrays in requests:
        for name, array in arrays.items():
            if pad_inputs:
                parts[name].append(_pad(array, shapes[name]))
                continue
            parts[name].append(array)
            if array.shape[1:] != parts[name][0].shape[1:]:
                raise FailedPreconditionError(
                    f"Tensors with name '{name}' from different tasks have different shapes and padding is turned "
                    "off. Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have "
                    "equal dimensions starting with the first dim."
                )
    row_bytes = sum(_size_of(same_name[-1][:1]) for same_name in parts.values()) if padding_rows else 0
    if padding_bytes + padding_rows * row_bytes <= MAX_PADDING_BYTES:
        for same_name in parts.values():
            same_name += [same_name[-1][:1]] * padding_rows
    return {name: _concatenate(same_name) for name, same_name in parts.items()}


def split(outputs: Arrays, rows: Sequence[int], padding_rows: int) -> list[dict[str, np.ndarray]]:
    """Split the arrays of a batch into those of each request.

    Args:
        outputs: Arrays of the batch.
        rows: Number of rows of each request, in order.
        padding_rows: Number of rows at the end that belong to no request.

    Raises:
        FailedPreconditionError: If an array does not have the batch's number of rows.
    """
    for array in outputs.values():
        if not array.ndim:
            raise FailedPreconditionError("Batched output tensor has 0 dimensions")
        if len(array) != sum(rows) + padding_rows:
            raise FailedPreconditionError(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors"
            )
    ends = np.cumsum(rows).tolist()
    return [
        {name: array[end - count : end] for name, array in outputs.items()}
        for count, end in zip(rows, ends, strict=True)
    ]


def _largest(name: str, arrays: Sequence[np.ndarray]) -> tuple[int, ...]:
    """Return the smallest shape that a row of every request fits into."""
    if len({array.ndim for array in arrays}) > 1:
        ranks = sorted({array.ndim for array in arrays})
        raise InvalidArgumentError(f"Tensors with name '{name}' from different tasks have different ranks: {ranks}")
    return tuple(max(sizes) for sizes in zip(*(array.shape[1:] for array in arrays), strict=True))


def _check_padding(requests: Sequence[Arrays], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return how many bytes padding to these shapes of rows adds.

    Raises:
        ServingError: If that is too much for the batch or one of its requests, which are then to be run apart.
    """
    total = 0
    for name, shape in shapes.items():
        elements = math.prod(shape)
        for array in (arrays[name] for arrays in requests):
            if array.shape[1:] == shape:
                continue
            added = (elements * len(array) - array.size) * _size_of(array.flat[:1])
            total += added
            if total > MAX_PADDING_BYTES or (added > MAX_GROWTH_BYTES and added > MAX_GROWTH * _size_of(array)):
                raise ServingError(
                    Code.RESOURCE_EXHAUSTED,
                    f"Padding of the tensor with name '{name}' from {array.shape[1:]} to {shape} is too much.",
                )
    return total


def _size_of(array: np.ndarray) -> int:
    """Return the size in bytes, with the lengths of strings."""
    return array.nbytes + (sum(map(len, array.flat)) if array.dtype == object else 0)


def _size_class(row_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape up to which a row may be padded, which is the key of all rows that may.

    Its sizes are powers of two. A small row may grow to `SMALL_SIZE` in each dimension, or less if it has many of them.
    Any other grows to less than twice its size in each dimension.
    """
    sizes = tuple(1 << max(0, size - 1).bit_length() for size in row_shape)
    least = 1 << ((SMALL_ROW.bit_length() - 1) // max(1, len(sizes)))
    small = tuple(max(size, min(SMALL_SIZE, least)) for size in sizes)
    return small if math.prod(small) <= SMALL_ROW else sizes


def _pad(array: np.ndarray, row_shape: tuple[int, ...]) -> np.ndarray:
    if array.ndim > MAX_PADDED_RANK:
        raise InvalidArgumentError(f"Only tensors with rank from 1 to {MAX_PADDED_RANK} can be padded.")
    if array.shape[1:] == row_shape:
        return array
    if not array.size:
        raise InvalidArgumentError("Got empty tensor in batch of non-empty tensors.")
    padded = np.full((len(array), *row_shape), array.flat[0], array.dtype)
    padded[tuple(map(slice, array.shape))] = array
    return padded


def _concatenate(arrays: Sequence[np.ndarray]) -> np.ndarray:
    for array in arrays:
        if array.dtype != arrays[0].dtype:
            first, other = dtype_name(dtype_of(arrays[0])), dtype_name(dtype_of(array))
            raise ServingError(
                Code.INTERNAL,
                "Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate tensors that have different data "
                f"types. Got {first} and {other}.",
            )
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
