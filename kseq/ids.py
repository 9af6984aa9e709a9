"""The gate of token ids, labels, tags and lengths: their checks, made before any conversion.

Ids, labels, tags and lengths are integers. Other dtypes are refused, even if the values are whole numbers; the losses
and metrics, to which Keras code often passes labels as floats, accept whole numbers of a float dtype.

Where values are known (outside compiled graphs), wrong ones raise an error. While a graph is traced only dtypes are
known. There a value that is not a whole number or is beyond int32 becomes `NO_ID`, which is outside every vocabulary
and longer than every row, and `read_rows` says which rows are valid: the loss or score of any other row is NaN.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor, known_value

NO_ID = 2**31 - 1  # the largest int32


class Rows(NamedTuple):
    """Rows of ids that are safe to look up, or arrays of numbers in their place.

    Attributes:
        ids: int32 `(batch, time)` or `(batch, words, characters)`; in place of an id outside the vocabulary stands the
            nearest one inside. Of a model that reads arrays, float32 `(batch, ...)`.
        lengths: int32 `(batch,)` or `(batch, words)`, between 0 and the size of the last axis of `ids`; None for
            arrays, which have no padding.
        valid: Bool `(batch,)`, False in rows with a wrong id or length; None if no row is wrong.
    """

    ids: Tensor
    lengths: Any
    valid: Tensor | None


def known_integers(values: Any, name: str, *, whole_floats: bool = False) -> np.ndarray | None:
    """Return the known values of an array, list or tensor as signed integers, or None while a graph is traced.

    Args:
        values: Ids, labels, tags or lengths of any shape.
        name: Name of the argument, for the error.
        whole_floats: Whether a float dtype is accepted if all values are whole numbers.

    Raises:
        ValueError: If the dtype is wrong, or a value is not a whole number.
    """
    if isinstance(values, keras.KerasTensor):
        return None
    try:
        known = known_value(values)
    except ValueError:  # lists of different lengths
        known = np.empty(0, object)
    if known is None:
        _check_dtype(name, keras.backend.standardize_dtype(values.dtype), whole_floats=whole_floats)
        return None
    if known.dtype.kind == "i":
        return known
    if known.dtype.kind == "u":
        return np.minimum(known.astype("uint64"), np.iinfo("int64").max).astype("int64")
    if known.dtype.kind in "fb" and not known.size:  # such as np.asarray([])
        return known.astype("int32")
    if whole_floats and _is_float(known.dtype.name):
        return _whole(known, name)
    if known.dtype.kind == "O" and known.size and isinstance(known.flat[0], str | bytes):  # as TensorFlow's strings are
        _check_dtype(name, "string")
    _check_dtype(name, known.dtype.name, odd=_odd_one(known))
    raise AssertionError(known.dtype)  # every other kind of dtype is refused


def integers(values: Any, name: str, *, whole_floats: bool = False) -> Tensor:
    """Return ids, labels, tags or lengths as int32, after the checks of `known_integers`.

    A value beyond int32 becomes the nearest int32; in a graph, a float that is not a whole number becomes `NO_ID`.
    """
    known = known_integers(values, name, whole_floats=whole_floats)
    if known is not None:
        return ops.convert_to_tensor(np.clip(known, -NO_ID, NO_ID).astype("int32"))
    dtype = keras.backend.standardize_dtype(values.dtype)
    if _is_float(dtype):
        whole = ops.logical_and(ops.floor(values) == values, ops.abs(values) < 2.0**31)
        return ops.where(whole, ops.cast(ops.where(whole, values, ops.zeros_like(values)), "int32"), NO_ID)
    if dtype in ("uint32", "uint64"):
        values = ops.minimum(values, ops.cast(NO_ID, dtype))
    elif dtype == "int64":
        values = ops.clip(values, -NO_ID, NO_ID)
    return values if dtype == "int32" else ops.cast(values, "int32")


def token_labels(values: Any, logits: Tensor) -> tuple[Tensor, np.ndarray | None]:
    """Return the labels of tokens, for losses and metrics that Keras passes them to as `y_true`.

    Args:
        values: Integers, whole numbers of a float dtype, or bools as 0 and 1; `(batch, time)` or `(batch, time, 1)`.
        logits: `(batch, time, classes)`.

    Returns:
        `(labels, known)`: labels int32 `(batch, time)`, and their values, or None while a graph is traced.

    Raises:
        ValueError: If a dtype or shape is wrong.
    """
    values = from_bools(values)
    known = known_integers(values, "y_true", whole_floats=True)
    labels = integers(values, "y_true", whole_floats=True)
    if getattr(labels.shape, "rank", 0) is None:  # in a TensorFlow graph
        return ops.reshape(labels, ops.shape(logits)[:-1]), known
    shape, expected = tuple(labels.shape), tuple(logits.shape)[:-1]
    if len(shape) == len(expected) + 1 and shape[-1] in (1, None):
        labels, shape = ops.reshape(labels, ops.shape(labels)[:-1]), shape[:-1]
        known = None if known is None else known[..., 0]
    pairs = zip(shape, expected, strict=False)
    if len(shape) != len(expected) or any(a != b for a, b in pairs if None not in (a, b)):
        raise ValueError(
            f"y_true has shape {tuple(labels.shape)}, but y_pred has shape {tuple(logits.shape)}: expected a label for "
            f"each token, of shape {expected} or {(*expected, 1)}. Of one-hot labels take np.argmax(y_true, axis=-1)."
        )
    return labels, known


def from_bools(values: Any) -> Any:
    """Return labels of bool dtype as 0 and 1, and all others unchanged."""
    if isinstance(values, list | tuple):
        try:
            array = np.asarray(values)
        except ValueError:  # rows of different lengths
            return values
        return array.astype("int32") if array.dtype == bool else values
    dtype = getattr(values, "dtype", None)
    return ops.cast(values, "int32") if getattr(dtype, "name", str(dtype)) == "bool" else values


def read_rows(ids: Any, lengths: Any, size: int, *, name: str) -> Rows:
    """Return rows of ids that are safe to look up; ids in the padding may be anything.

    Args:
        ids: int `(batch, time)`, or `(batch, words, characters)`.
        lengths: int `(batch,)`, or `(batch, words)`.
        size: Size of the vocabulary.
        name: Name of the ids, for errors; that of the lengths is `NAME_lengths`.

    Raises:
        ValueError: If a shape or dtype is wrong, or, outside compiled graphs, an id or a length.
    """
    known_ids, known_lengths = known_integers(ids, name), known_integers(lengths, f"{name}_lengths")
    ids, lengths = integers(ids, name), integers(lengths, f"{name}_lengths")
    if len(ids.shape) != len(lengths.shape) + 1:
        raise ValueError(
            f"{name} must be (batch, time) and {name}_lengths (batch,), but their shapes are {tuple(ids.shape)} and "
            f"{tuple(lengths.shape)}."
        )
    time = ops.shape(ids)[-1]
    if known_lengths is not None and isinstance(time, int):
        check_lengths(known_lengths, time, f"{name}_lengths", name)
    safe = ops.clip(ids, 0, size - 1)
    if known_ids is not None and known_lengths is not None:
        check_ids(known_ids, size, name, lengths=known_lengths)
        return Rows(safe, lengths, None)
    inside = ops.clip(lengths, 0, time)
    padding = ops.arange(time, dtype="int32") >= ops.expand_dims(lengths, -1)
    valid = ops.logical_and(ops.all(ops.logical_or(safe == ids, padding), axis=-1), inside == lengths)
    return Rows(safe, inside, valid if len(valid.shape) == 1 else ops.all(valid, axis=1))  # axis 1: words


def check_ids(ids: np.ndarray, size: int, name: str, *, lengths: np.ndarray | None = None) -> None:
    """Raise ValueError if an id is not in `[0, size)`; with `lengths`, the padding is not checked."""
    outside = (ids < 0) | (ids >= size)
    if lengths is not None:
        outside &= np.arange(ids.shape[-1]) < lengths[..., None]
    if outside.any():
        place = tuple(int(axis) for axis in np.argwhere(outside)[0])
        raise ValueError(
            f"{name}{list(place)} = {ids[place]} is not a token id: the vocabulary has ids 0 to {size - 1}. "
            "Tokenize with the model's vocabulary, or create a model of the vocabulary's size."
        )


def check_lengths(lengths: np.ndarray, limit: int, name: str, of: str) -> None:
    """Raise ValueError if a length is not between 0 and `limit`, the number of columns of the array named `of`."""
    wrong = (lengths < 0) | (lengths > limit)
    if wrong.any():
        place = tuple(int(axis) for axis in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name}{list(place)} = {lengths[place]}, but {of} has {limit} columns: a length is between 0 and {limit}."
        )


def all_valid(*rows: Rows) -> Tensor | None:
    """Return which rows are valid in all of `rows`, bool `(batch,)`; None if no row is wrong."""
    valid = None
    for each in rows:
        if each.valid is not None:
            valid = each.valid if valid is None else ops.logical_and(valid, each.valid)
    return valid


def with_nan(values: Tensor, valid: Tensor | None) -> Tensor:
    """Return float `values` `(batch, ...)` with NaN in the rows that are not valid."""
    if valid is None:
        return values
    valid = ops.reshape(valid, (-1, *([1] * (len(values.shape) - 1))))
    return ops.where(valid, values, ops.full_like(values, np.nan))


def _check_dtype(name: str, dtype: str, *, whole_floats: bool = False, odd: str = "") -> None:
    if dtype.startswith(("int", "uint")) or (whole_floats and _is_float(dtype)):
        return
    if dtype == "object":
        way_out = (
            "Rows of different lengths must be padded to one length, or given to a model as a list of lists or a "
            "RaggedTensor."
        )
    elif dtype.startswith(("str", "bytes", "string")):
        way_out = "Turn texts into ids by a tokenizer first, such as kseq.text.WordTokenizer."
    else:
        way_out = f'If all values are whole numbers, cast them: np.asarray({name}).astype("int32").'
    raise ValueError(f"The values of {name} have dtype {dtype}{odd}, but they must be integers. {way_out}")


def _whole(values: np.ndarray, name: str) -> np.ndarray:
    """Return whole numbers of a float dtype as integers."""
    if odd := _odd_one(values):
        raise ValueError(f"The values of {name} must be whole numbers, but there are others{odd}.")
    return np.clip(values.astype("float64"), -NO_ID, NO_ID).astype("int64")


def _odd_one(values: np.ndarray) -> str:
    """Return the place of the first float that is not a whole number, or an empty string."""
    if not _is_float(values.dtype.name):
        return ""
    odd = ~np.isfinite(values) | (np.floor(values) != values)
    if not odd.any():
        return ""
    place = tuple(int(axis) for axis in np.argwhere(odd)[0])
    return f" (such as {values[place]} at {list(place)})"


def _is_float(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat"))
