"""Conversions between ragged rows of ids, padded rows with lengths and masks, and one-hot rows."""

import reprlib
from numbers import Integral
from typing import Any, NamedTuple

import tensorflow as tf

from kseq.numbers import LARGEST_ID, whole
from kseq.text.ragged import ragged_beginnings


class PaddedRows(NamedTuple):
    """Rows of ids with padding at their ends.

    Attributes:
        ids: int32 `(batch, time)`.
        lengths: int32 `(batch,)`.
        mask: bool `(batch, time)`, True at real ids.
    """

    ids: tf.Tensor
    lengths: tf.Tensor
    mask: tf.Tensor


def as_rows(ids: Any, name: str = "ids") -> tf.RaggedTensor:
    """Return rows of ids as ragged int32 `(batch, (tokens))`, whose splits are int64.

    Ids beyond int32 are refused. In a graph, which cannot refuse them, they become the largest or smallest int32, which
    no vocabulary has.

    Args:
        ids: Ragged integers `(batch, (tokens))`, lists of lists of integers, of equal lengths or not, or an integer
            tensor or array `(batch, tokens)`, which has no padding.
        name: The argument's name, for the error.

    Raises:
        ValueError: If they are none of these.
    """
    rows = ids
    if isinstance(ids, list | tuple):
        rows = [_plain(row) for row in ids]
        if any(isinstance(row, Integral) for row in rows):
            raise ValueError(f"{_expected(name)} got {reprlib.repr(ids)}. Put a single row into a list.")
    if not isinstance(rows, tf.RaggedTensor):
        try:
            rows = tf.ragged.constant(rows, ragged_rank=1) if isinstance(ids, list | tuple) else ragged_of(rows)
        except (TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{_expected(name)} got {reprlib.repr(ids)}: {reason}") from error
    nothing = isinstance(ids, list | tuple) and not any(len(row) for row in ids)  # its dtype is not known
    if not nothing and not rows.dtype.is_integer:
        raise ValueError(f"{_expected(name)} got {rows.dtype.name}: {reprlib.repr(ids)}.")
    if rows.shape.rank != 2:
        raise ValueError(f"{_expected(name)} got shape {rows.shape}. Put a single row into a list.")
    values = _int32(rows.flat_values)
    if tf.executing_eagerly() and bool(tf.reduce_any(tf.cast(values, rows.dtype) != rows.flat_values)):
        raise ValueError(f"{_expected(name)} got {reprlib.repr(rows.to_list())}, which does not fit into int32.")
    return rows.with_flat_values(values).with_row_splits_dtype(tf.int64)


def _plain(row: Any) -> Any:
    """Return a row of a list of rows, an array or a tensor with known values too, as Python's numbers."""
    row = row.numpy() if tf.is_tensor(row) and hasattr(row, "numpy") else row
    return row.tolist() if hasattr(row, "tolist") else row


def _int32(values: tf.Tensor) -> tf.Tensor:
    """Return integers as int32; those beyond it become its largest or smallest number, where a cast would wrap."""
    if values.dtype.size < 4 or values.dtype == tf.int32 or not values.dtype.is_integer:
        return tf.cast(values, tf.int32)
    largest = tf.fill(tf.shape(values), LARGEST_ID)
    found = tf.where(values > LARGEST_ID, largest, tf.cast(values, tf.int32))
    return found if values.dtype.is_unsigned else tf.where(values < -LARGEST_ID - 1, -largest - 1, found)


def ragged_of(ids: Any) -> tf.RaggedTensor:
    """Return `ids`, `(batch, time)`, as ragged rows of that length.

    Raises:
        ValueError: If they are of another rank.
    """
    ids = tf.convert_to_tensor(ids)
    if ids.shape.rank != 2:
        raise ValueError(f"The shape is {ids.shape}.")
    return ragged_beginnings(ids, tf.fill([tf.shape(ids)[0]], tf.shape(ids)[1]))


def _expected(name: str) -> str:
    return f"{name} must be whole numbers of shape (batch, (tokens)), ragged, dense or lists of lists, but"


def ragged_to_dense(rows: Any, pad_id: int = 0) -> PaddedRows:
    """Return rows of ids, padded to the longest one.

    Args:
        rows: Ragged integers `(batch, (tokens))`, such as `tokenizer.tokenize(text)`, or lists of lists of integers.
        pad_id: The padding.

    In a graph, ids beyond int32 become the largest or smallest int32, which no vocabulary has.

    Raises:
        ValueError: If an argument is none of these, or, outside of graphs, an id does not fit into int32.

    Example:
        >>> ragged_to_dense([[5, 6], [7]]).ids.numpy().tolist()
        [[5, 6], [7, 0]]
    """
    ragged = as_rows(rows, "rows")
    ids = ragged.to_tensor(whole("pad_id", pad_id))
    lengths = tf.cast(ragged.row_lengths(), tf.int32)
    return PaddedRows(ids, lengths, tf.sequence_mask(lengths, tf.shape(ids)[1]))


def dense_to_ragged(ids: Any, lengths: Any) -> tf.RaggedTensor:
    """Return padded rows without their padding, ragged int32 `(batch, (tokens))`.

    Args:
        ids: Integers `(batch, time)`, such as those of `tokenizer(text)`.
        lengths: int `(batch,)`, from 0 to the number of time steps. In a graph other lengths count as the nearest of
            these.

    Ids beyond int32 count as in `ragged_to_dense`.

    Raises:
        ValueError: If the shapes do not fit, the dtypes are not integers, or, outside of graphs, an id does not fit
            into int32, or a length is too large or negative.

    Example:
        >>> dense_to_ragged([[5, 6], [7, 0]], [2, 1]).to_list()
        [[5, 6], [7]]
    """
    ids, lengths = _padded("dense_to_ragged", ids, lengths)
    return as_rows(ragged_beginnings(ids, lengths))


def one_hot_rows(ids: Any, lengths: Any, depth: int, *, dtype: str = "float32") -> tf.Tensor:
    """Return one-hot rows, `(batch, time, depth)`, with zeros in the padding and for ids outside 0 to `depth - 1`.

    Args:
        ids: Integers `(batch, time)`.
        lengths: int `(batch,)`, as in `dense_to_ragged`.
        depth: The number of classes, such as `tokenizer.vocabulary_size`.
        dtype: The type of the result.

    Raises:
        ValueError: If `depth` is negative, the shapes do not fit, the dtypes are not integers, or, outside of graphs, a
            length is too large or negative.

    Example:
        >>> one_hot_rows([[1, 0]], [1], 2).numpy().tolist()
        [[[0.0, 1.0], [0.0, 0.0]]]
    """
    ids, lengths = _padded("one_hot_rows", ids, lengths)
    if (classes := whole("depth", depth)) < 0:
        raise ValueError(f"depth must be the number of classes, but is {classes}.")
    real = tf.sequence_mask(lengths, tf.shape(ids)[1])
    return tf.one_hot(tf.where(real, _int32(ids), -1), classes, dtype=dtype)


def _padded(name: str, ids: Any, lengths: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Return ids of any integer dtype and int32 lengths, after checks."""
    if isinstance(ids, tf.RaggedTensor):
        raise ValueError(f"{name} needs padded ids (batch, time), but they are ragged. Give ragged_to_dense(ids).ids.")
    ids, lengths = (_integers(name, values) for values in (ids, lengths))
    if (ids.shape.rank, lengths.shape.rank) != (2, 1) or not ids.shape[:1].is_compatible_with(lengths.shape):
        raise ValueError(
            f"{name} needs ids (batch, time) and lengths (batch,), but they have the shapes {ids.shape} and "
            f"{lengths.shape}."
        )
    if not (ids.dtype.is_integer and lengths.dtype.is_integer):
        raise ValueError(f"{name} needs integers, but got {ids.dtype.name} ids and {lengths.dtype.name} lengths.")
    time = tf.shape(ids)[1]
    inside = tf.clip_by_value(_int32(lengths), 0, time)
    if tf.executing_eagerly() and bool(tf.reduce_any(wrong := _int32(lengths) != inside)):
        row = int(tf.where(wrong)[0, 0])
        raise ValueError(
            f"{name}: row {row} has the length {int(lengths[row])}, but the rows have {int(time)} time steps. Give the "
            "lengths that belong to these ids."
        )
    return ids, inside


def _integers(name: str, values: Any) -> tf.Tensor:
    """Return a tensor; an empty list, which TensorFlow takes for floats, gives integers."""
    try:
        tensor = tf.convert_to_tensor(values)
    except (TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{name} needs padded ids and lengths, but got {reprlib.repr(values)}: {reason}") from error
    return tf.cast(tensor, tf.int32) if isinstance(values, list | tuple) and 0 in tensor.shape else tensor
