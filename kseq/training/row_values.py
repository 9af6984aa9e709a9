"""Entries of training rows that are no lists of token ids: words as lists of characters, and values per row."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kseq.models.inputs.token_checks import integer_array


class WordRows:
    """Rows of words, each a list of character ids.

    Args:
        lists: For each row a list of words.
        name: Name of the entry, for errors.

    Attributes:
        rows: The rows, lists of arrays of ids.
        flat: For each row the ids of all its words.
        width: Number of ids in the longest word, at least 1.
    """

    def __init__(self, lists: Any, name: str):
        lists = lists.to_list() if hasattr(lists, "nested_row_splits") else lists
        self.rows = [
            [integer_array(word, f"{name}[{index}, {place}]") for place, word in enumerate(row)]
            for index, row in enumerate(lists)
        ]
        for index, row in enumerate(self.rows):
            for place, word in enumerate(row):
                if word.ndim != 1:
                    raise ValueError(
                        f"{name}[{index}, {place}] has shape {word.shape}, but a word is a list of ids, (characters,)."
                    )
        none = np.zeros(0, "int32")
        self.flat = [np.concatenate([none, *row]) for row in self.rows]
        self.width = max((len(word) for row in self.rows for word in row), default=0) or 1

    def pad(self, rows: Sequence, batch_size: int, bucket: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return words as int32 `(batch_size, bucket, width)`, and the number of ids in each word."""
        ids = np.full((batch_size, bucket, self.width), pad_id, "int32")
        lengths = np.zeros((batch_size, bucket), "int32")
        for index, row in enumerate(rows):
            for place, word in enumerate(row):
                ids[index, place, : len(word)], lengths[index, place] = word, len(word)
        return ids, lengths


def is_per_row(values: Any) -> bool:
    """Return whether an entry has one number, or one array of floats, for each row, instead of a list of ids."""
    first = next(iter(values), None)
    return first is not None and (np.ndim(first) == 0 or np.asarray(first).dtype.kind == "f")


def values_per_row(values: Any, name: str) -> np.ndarray:
    """Return one number, or one array of numbers, for each row, as int32 or float32.

    Raises:
        ValueError: If rows have different shapes, or are no numbers.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} must have a number, or equally many numbers, for each row: {error}") from error
    if array.dtype.kind not in "iufb":
        shown = f", such as {array.flat[0]!r}" if array.size else ""
        raise ValueError(f"The values of {name} have dtype {array.dtype}{shown}, but they must be numbers.")
    return array.astype("float32" if array.dtype.kind == "f" else "int32")


def completed(values: np.ndarray, batch_size: int) -> np.ndarray:
    """Return `values` `(rows, ...)` with rows of zeros up to `batch_size` rows."""
    return np.concatenate([values, np.zeros((batch_size - len(values), *values.shape[1:]), values.dtype)])
