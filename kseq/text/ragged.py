"""Construction of ragged tensors of ids."""

from typing import Any

import tensorflow as tf

_TYPE: Any = tf.RaggedTensor  # its annotations lack the constructors


def ragged_rows(values: Any, splits: Any) -> Any:
    """Return the ragged rows of `values` between `splits`."""
    return _TYPE.from_row_splits(values, splits, validate=False)


def ragged_beginnings(rows: Any, lengths: Any) -> Any:
    """Return the first `lengths` values of each of `rows`, `(batch, time)`, as ragged rows."""
    return _TYPE.from_tensor(rows, lengths)
