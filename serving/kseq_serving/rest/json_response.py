"""JSON bodies of predict responses: arrays as rows (`predictions`) or columns (`outputs`)."""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kseq_serving.errors import InvalidArgumentError
from kseq_serving.protocol.dtypes import dtype_name, dtype_of
from kseq_serving.rest.json_writer import INDENT, encode, format_floats, quote

PIECE = 10_000  # values that are written at once, because Python's lock is held meanwhile
BYTES_SUFFIX = "_bytes"  # string outputs whose names end so are written in base64

# As NumPy's types, which are quicker to compare.
_FLOATS = frozenset(map(np.dtype, ("float32", "float64")))
_INTEGERS = frozenset(map(np.dtype, ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")))


class _Form(NamedTuple):
    """Form in which an array is written.

    Attributes:
        lists: For each axis, what stands before, between and behind the elements of a list; an empty one is `[]`.
        depth: Number of objects and lists around a value.
    """

    lists: tuple[tuple[str, str, str], ...]
    depth: int


def write(outputs: Mapping[str, np.ndarray], *, rows: bool) -> bytearray:
    """Return the body of a response.

    Args:
        outputs: Arrays by name.
        rows: Whether to write rows instead of columns, as in the request.

    Raises:
        InvalidArgumentError: If an array cannot be written in this form.
    """
    if not outputs:
        raise InvalidArgumentError("Cannot convert empty tensor map to JSON")
    pieces = _write_rows(outputs) if rows else _write_columns(outputs)
    body = bytearray()
    for piece in pieces:  # one text of all values would hold Python's lock while it is joined, and while it is encoded
        body += encode(piece)
    return body


def _write_rows(outputs: Mapping[str, np.ndarray]) -> Iterator[str]:
    batch = _batch_size(outputs)
    yield f'{{\n{INDENT}"predictions": '
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        yield from _array(name, array, _predictions(array.ndim))
    elif batch:
        yield "["
        yield from _objects(outputs, batch)
        yield f"\n{INDENT}]"
    else:
        yield "[]"
    yield "\n}"


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


def _objects(outputs: Mapping[str, np.ndarray], batch: int) -> Iterator[str]:
    """Yield the rows of several outputs, one object for each."""
    forms = {name: _inline(array.ndim, 2) for name, array in outputs.items()}
    before = [f"\n{INDENT * 3}{quote(name)}: " for name in outputs]
    opening, closing = f"\n{INDENT * 2}{{", f"\n{INDENT * 2}}}"
    together = PIECE // sum(_count(array.shape[1:]) for array in outputs.values())
    for start in range(0, batch, together or 1):
        if start:
            yield ","
        if together:
            columns = [_texts(name, array[start : start + together], forms[name]) for name, array in outputs.items()]
            rows = [opening + ",".join(map(str.__add__, before, row)) + closing for row in zip(*columns, strict=True)]
            yield ",".join(rows)
            continue
        for index, (name, array) in enumerate(outputs.items()):
            yield ("," if index else opening) + before[index]
            yield from _array(name, array[start, ...], _Form(forms[name].lists[1:], forms[name].depth))
        yield closing


def _write_columns(outputs: Mapping[str, np.ndarray]) -> Iterator[str]:
    yield f'{{\n{INDENT}"outputs": '
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        yield from _array(name, array, _indented(array.ndim, 1))
    else:
        for index, (name, array) in enumerate(outputs.items()):
            yield ("," if index else "{") + f"\n{INDENT * 2}{quote(name)}: "
            yield from _array(name, array, _indented(array.ndim, 2))
        yield f"\n{INDENT}}}"
    yield "\n}"


@functools.cache
def _predictions(rank: int) -> _Form:
    """Return the form of the rows of a single output."""
    form = _inline(rank, 1)
    return _Form((("[", ", ", f"\n{INDENT}]"), *form.lists[1:]), form.depth)


@functools.cache
def _inline(rank: int, depth: int) -> _Form:
    """Return the form with lists on one line; `depth` is the number of objects and lists around the array."""
    return _Form((("[", ", ", "]"),) * rank, depth + rank)


@functools.cache
def _indented(rank: int, depth: int) -> _Form:
    """Return the form with each element of a list on its own line; `depth` is as for `_inline`."""
    lists = []
    for axis in range(depth, depth + rank):
        inner, outer = "\n" + INDENT * (axis + 1), "\n" + INDENT * axis
        lists.append((f"[{inner}", f",{inner}", f"{outer}]"))
    return _Form(tuple(lists), depth + rank)


def _array(name: str, array: np.ndarray, form: _Form) -> Iterator[str]:
    """Yield the text of an array, in pieces of at most `PIECE` values."""
    if not array.ndim:
        yield _value_texts(name, array.ravel(), form.depth)[0]
        return
    if not len(array):
        yield "[]"
        return
    before, between, behind = form.lists[0]
    together = PIECE // _count(array.shape[1:])
    if len(array) <= together:
        yield f"{before}{between.join(_texts(name, array, form))}{behind}"
        return
    yield before
    for start in range(0, len(array), together or 1):
        if start:
            yield between
        if together:
            yield between.join(_texts(name, array[start : start + together], form))
        else:
            yield from _array(name, array[start], _Form(form.lists[1:], form.depth))
    yield behind


def _count(shape: Sequence[int]) -> int:
    """Return the number of texts of an array: its values, and its empty lists."""
    return math.prod(shape) or math.prod(max(1, size) for size in shape)


def _texts(name: str, array: np.ndarray, form: _Form) -> list[str]:
    """Return one text for each element of the first axis."""
    texts = _value_texts(name, array.ravel(), form.depth) if array.size else []
    for axis in range(array.ndim - 1, 0, -1):
        size, count = array.shape[axis], math.prod(array.shape[:axis])
        before, between, behind = form.lists[axis]
        if size:
            groups = (texts[start : start + size] for start in range(0, size * count, size))
            texts = [f"{before}{between.join(group)}{behind}" for group in groups]
        else:
            texts = ["[]"] * count
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
