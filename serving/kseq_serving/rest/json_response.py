"""JSON bodies of predict responses: arrays as rows (`predictions`) or columns (`outputs`)."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping

import numpy as np

from kseq_serving.errors import InvalidArgumentError
from kseq_serving.protocol.dtypes import dtype_name, dtype_of
from kseq_serving.rest.json_writer import INDENT, encode, format_floats, quote

PIECE = 10_000  # values that are written at once
BYTES_SUFFIX = "_bytes"  # string outputs whose names end so are written in base64

# As NumPy's types, which are quicker to compare.
_FLOATS = frozenset(map(np.dtype, ("float32", "float64")))
_INTEGERS = frozenset(map(np.dtype, ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")))


def write(outputs: Mapping[str, np.ndarray], *, rows: bool) -> bytes:
    """Return the body of a response.

    Args:
        outputs: Arrays by name.
        rows: Whether to write rows instead of columns, as in the request.

    Raises:
        InvalidArgumentError: If an array cannot be written in this form.
    """
    if not outputs:
        raise InvalidArgumentError("Cannot convert empty tensor map to JSON")
    return encode(_write_rows(outputs) if rows else _write_columns(outputs))


def _write_rows(outputs: Mapping[str, np.ndarray]) -> str:
    batch = _batch_size(outputs)
    named = len(outputs) > 1
    # Nesting depth: the whole object, the list of rows, and for several outputs the object of a row.
    depth = 3 if named else 2
    columns = {name: _row_texts(name, array, depth) for name, array in outputs.items()}
    if not batch:
        return f'{{\n{INDENT}"predictions": []\n}}'
    if not named:
        (column,) = columns.values()
        return f'{{\n{INDENT}"predictions": [{", ".join(column)}\n{INDENT}]\n}}'
    before = [f"\n{INDENT * 3}{quote(name)}: " for name in columns]
    rows = [
        f"\n{INDENT * 2}{{" + ",".join(map(str.__add__, before, row)) + f"\n{INDENT * 2}}}"
        for row in zip(*columns.values(), strict=True)
    ]
    return f'{{\n{INDENT}"predictions": [{",".join(rows)}\n{INDENT}]\n}}'


def _batch_size(outputs: Mapping[str, np.ndarray]) -> int:
    batch = None
    for name, array in outputs.items():
        if not array.ndim:
            raise InvalidArgumentError(f"Tensor name: {name} has no shape information ")
        if batch is not None and len(array) != batch:
            raise InvalidArgumentError(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch}"
            )
        batch = len(array)
    return batch or 0


def _row_texts(name: str, array: np.ndarray, depth: int) -> list[str]:
    """Return one text per row, with lists on one line."""
    texts = _leaf_texts(name, array, depth + array.ndim - 1)
    for axis in range(array.ndim - 1, 0, -1):
        size = array.shape[axis]
        texts = [f"[{', '.join(group)}]" for group in _groups(texts, size, math.prod(array.shape[:axis]))]
    return texts


def _write_columns(outputs: Mapping[str, np.ndarray]) -> str:
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return f'{{\n{INDENT}"outputs": {_column_text(name, array, 1)}\n}}'
    members = (f"\n{INDENT * 2}{quote(name)}: {_column_text(name, array, 2)}" for name, array in outputs.items())
    return f'{{\n{INDENT}"outputs": {{{",".join(members)}\n{INDENT}}}\n}}'


def _column_text(name: str, array: np.ndarray, depth: int) -> str:
    """Return the text of a whole array, with each list element on its own line."""
    texts = _leaf_texts(name, array, depth + array.ndim)
    for axis in range(array.ndim - 1, -1, -1):
        inner, outer = "\n" + INDENT * (depth + axis + 1), "\n" + INDENT * (depth + axis)
        groups = _groups(texts, array.shape[axis], math.prod(array.shape[:axis]))
        texts = [f"[{inner}{f',{inner}'.join(group)}{outer}]" if group else "[]" for group in groups]
    return texts[0]


def _groups(texts: list[str], size: int, count: int) -> list[list[str]]:
    return [texts[start : start + size] for start in range(0, size * count, size)] if size else [[]] * count


def _leaf_texts(name: str, array: np.ndarray, depth: int) -> list[str]:
    """Return the texts of all values in order; `depth` is the number of objects and lists around a value."""
    values = array.ravel()
    if not values.size:
        return []
    texts: list[str] = []
    # In pieces, because Python's lock is held while one of them is converted.
    for start in range(0, len(values), PIECE):
        texts += _value_texts(name, values[start : start + PIECE], depth)
    return texts


def _value_texts(name: str, values: np.ndarray, depth: int) -> list[str]:
    dtype = values.dtype
    if dtype in _FLOATS:
        return format_floats(values)
    if dtype in _INTEGERS:
        return list(map(str, values.tolist()))
    if dtype.kind == "b":
        return ["true" if value else "false" for value in values.tolist()]
    if dtype.kind != "O":
        raise InvalidArgumentError(f"Failed to write JSON value for tensor type: {dtype_name(dtype_of(values))}")
    if not name.endswith(BYTES_SUFFIX):
        return [quote(value.decode("utf-8", "surrogateescape")) for value in values.tolist()]
    inner, outer = "\n" + INDENT * (depth + 1), "\n" + INDENT * depth
    return [f'{{{inner}"b64": "{base64.b64encode(value).decode()}"{outer}}}' for value in values.tolist()]
