"""Lengths to which rows are padded: their checks, and their choice from the data."""

import itertools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kseq.numbers import whole


def choose_buckets(lengths: Any, count: int) -> tuple[int, ...]:
    """Return the lengths to which rows are padded with the least padding in all, of a given number of lengths.

    Computed exactly, by dynamic programming over the histogram of the lengths: the rows up to length `l_j` are padded
    least with k buckets, of which `l_j` is the last, if

        cost(k, j) = min_i cost(k - 1, i) + l_j * rows(l_i < length <= l_j)

    Args:
        lengths: int `(rows,)`, the lengths of the rows.
        count: Largest number of buckets, at least 1. Each is a shape that XLA compiles.

    Returns:
        Increasing lengths, the last one the largest of the rows'. Fewer than `count` if the rows have fewer lengths.

    Raises:
        ValueError: If there is no row, a length is negative or no integer, or `count` is below 1.

    Example:
        >>> kseq.training.choose_buckets([1, 2, 2, 3, 9, 10, 30], 3)
        (3, 10, 30)
    """
    array, count = np.asarray(lengths), whole("count", count)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu" or array.min() < 0:
        raise ValueError(f"lengths={lengths!r:.200} must be a list of one or more whole numbers of at least 0.")
    if count < 1:
        raise ValueError(f"count={count}, but there must be at least 1 bucket.")
    sizes, rows = np.unique(np.maximum(array, 1), return_counts=True)
    until = np.concatenate([[0], np.cumsum(rows)])  # number of rows shorter than each size
    sizes = sizes.astype("int64")
    cost, before = sizes * until[1:], []  # with one bucket
    for _ in range(min(count, len(sizes)) - 1):
        shorter = np.concatenate([[0], cost])  # cost of the rows before each place
        found = [shorter[: j + 1] + sizes[j] * (until[j + 1] - until[: j + 1]) for j in range(len(sizes))]
        before.append([int(each.argmin()) for each in found])
        cost = np.array([each.min() for each in found])
    place, chosen = len(sizes) - 1, []
    for step in reversed(before):
        chosen.append(int(sizes[place]))
        place = step[place] - 1
        if place < 0:
            return tuple(reversed(chosen))
    return tuple(reversed([*chosen, int(sizes[place])]))


def check_sizes(sizes: Sequence[int], name: str) -> tuple[int, ...]:
    """Return `sizes` as a tuple, or raise ValueError if they are not increasing positive integers."""
    try:
        sizes = tuple(operator.index(size) for size in sizes)
    except TypeError:
        raise ValueError(f"{name}={sizes!r} must be increasing integers of at least 1, such as [8, 16, 32].") from None
    if not sizes or sizes[0] < 1 or any(low >= high for low, high in itertools.pairwise(sizes)):
        raise ValueError(f"{name}={list(sizes)} must be increasing integers of at least 1, such as [8, 16, 32].")
    return sizes


def buckets_by_name(buckets: Any, lengths: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Return the buckets of each name.

    Args:
        buckets: Increasing lengths, or the number of lengths to choose; for all names, or a mapping from names.
        lengths: The lengths of the rows, by name.

    Raises:
        ValueError: If names differ, or buckets do not increase.
    """
    names = list(lengths)
    if not isinstance(buckets, Mapping):
        buckets = dict.fromkeys(names, buckets)
    if missing := [name for name in names if name not in buckets]:
        raise ValueError(f"There are buckets for {sorted(buckets)}, but none for {missing}. Give some for each name.")
    if unknown := sorted({*buckets} - {*names}):
        raise ValueError(f"There are buckets for {unknown}, but the sequences are {sorted(names)}.")
    return {
        name: choose_buckets(lengths[name], buckets[name])
        if isinstance(buckets[name], int | np.integer)
        else check_sizes(buckets[name], f"buckets of {name}")
        for name in names
    }


def bucket_of(lengths: np.ndarray, buckets: Sequence[int], name: str) -> np.ndarray:
    """Return the index of the smallest bucket that holds each row."""
    if lengths.max() > max(buckets):
        row = int(lengths.argmax())
        raise ValueError(
            f"{name}[{row}] has {lengths[row]} tokens, but the largest bucket holds {max(buckets)}. "
            "Add a larger bucket, or truncate the text (max_length of the tokenizer)."
        )
    return np.searchsorted(np.asarray(buckets), lengths)
