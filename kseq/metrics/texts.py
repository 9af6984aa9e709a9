"""Lists of texts that metrics compare."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def text_rows(values: Any) -> list:
    """Return texts, or rows of tokens, as a list: bytes as str, and rows of tokens as lists.

    Args:
        values: A list of texts or of sequences, an array or tensor of strings, or a single text.
    """
    if isinstance(values, str | bytes):
        return [as_text(values)]
    if hasattr(values, "numpy"):
        values = values.numpy()
    rows = values.tolist() if isinstance(values, np.ndarray) else values
    return [_row(row) for row in rows]


def as_text(value: Any) -> Any:
    """Return bytes as str, and all else unchanged."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def same_number(references: Sequence, hypotheses: Sequence) -> None:
    """Raise ValueError if the numbers of references and hypotheses differ."""
    if len(references) != len(hypotheses):
        raise ValueError(
            f"Got {len(references)} references and {len(hypotheses)} hypotheses. Give one hypothesis per reference."
        )


def _row(row: Any) -> Any:
    if isinstance(row, str | bytes):
        return as_text(row)
    row = row.numpy() if hasattr(row, "numpy") else row
    row = row.tolist() if isinstance(row, np.ndarray) else row
    return [as_text(token) for token in row] if isinstance(row, Iterable) else row
