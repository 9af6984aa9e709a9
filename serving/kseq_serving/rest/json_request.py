"""JSON bodies of predict requests: rows (`instances`) or columns (`inputs`), converted to arrays.

Rectangular lists whose leaves have one type are converted as a whole, which is fast. Any other value is walked element
by element, so that the error names the first element that is wrong.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from kseq_serving.errors import InvalidArgumentError, ServingError, UnimplementedError
from kseq_serving.protocol import tensors
from kseq_serving.rest import json_reader, json_writer
from kseq_serving.rest.json_excerpt import excerpt
from kseq_serving.rest.json_reader import JsonValue

Inputs = Mapping[str, Any]  # inputs of a signature, TensorInfo by name

# This module must not import TensorFlow, because the processes that parse large bodies run it too. Dtypes are numbers
# of TensorFlow's DataType.
_FLOAT, _DOUBLE, _INT32, _UINT8, _INT16, _INT8, _STRING = range(1, 8)
_INT64, _BOOL, _UINT32, _UINT64 = 9, 10, 22, 23
_DTYPE_NAMES = {
    8: "complex64",
    _BOOL: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "half",
    20: "resource",
    21: "variant",
    _FLOAT: "float",
    _DOUBLE: "double",
    _INT32: "int32",
    _UINT8: "uint8",
    _INT16: "int16",
    _INT8: "int8",
    _STRING: "string",
    _INT64: "int64",
    _UINT32: "uint32",
    _UINT64: "uint64",
}
_FLOATS = (_FLOAT, _DOUBLE)
_FEW = 8  # values that are quicker to look at one by one
_TINY, _HUGE = 1e-37, 1e38  # between which a number is neither a denormal of float32 nor beyond it
_INT32_RANGE = (-(2**31), 2**31 - 1)
_INTEGER_RANGES = {
    _INT8: _INT32_RANGE,  # narrow integers are read as int32 and wrap around
    _INT16: _INT32_RANGE,
    _UINT8: _INT32_RANGE,
    _INT32: _INT32_RANGE,
    _INT64: (-(2**63), 2**63 - 1),
    _UINT32: (0, 2**32 - 1),
    _UINT64: (0, 2**64 - 1),
}


def parse(body: bytes) -> dict[str, JsonValue]:
    """Parse the body of a request, which must be a JSON object.

    Raises:
        InvalidArgumentError: If it is not.
    """
    document = json_reader.parse(body)
    if not isinstance(document, dict):
        raise malformed(document, "Is not object")
    return document


def signature_name(document: Mapping[str, JsonValue]) -> str:
    """Return the name of the requested signature; empty for the default one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise malformed(document, "not formatted correctly. 'signature_name' key must be a string value.")
    return name


def is_in_rows(document: Mapping[str, JsonValue]) -> bool:
    """Return whether a request has rows (`instances`), not columns (`inputs`); its response has the same form."""
    return "instances" in document


def read_inputs(document: Mapping[str, JsonValue], infos: Inputs) -> dict[str, np.ndarray]:
    """Read the inputs of a request.

    Args:
        document: Body of the request.
        infos: Inputs of the signature.

    Returns:
        Arrays by input name.

    Raises:
        ServingError: If the values do not fit the inputs.
    """
    if not infos:
        raise InvalidArgumentError(f"Failed to get input map for signature: {signature_name(document) or 'DEFAULT'}")
    if is_in_rows(document):
        return _rows(_instances(document), infos)
    if "inputs" in document:
        return _columns(document["inputs"], infos)
    raise InvalidArgumentError("Missing 'inputs' or 'instances' key")


def _instances(document: Mapping[str, JsonValue]) -> list[JsonValue]:
    instances = document["instances"]
    if "inputs" in document:
        reason = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
        raise malformed(document, reason)
    if not isinstance(instances, list):
        raise malformed(document, "Expecting 'instances' to be an list/array")
    if not instances:
        raise malformed(document, "No values in 'instances' array")
    return instances


def _columns(value: JsonValue, infos: Inputs) -> dict[str, np.ndarray]:
    if not isinstance(value, dict) or is_base64(value):
        if len(infos) > 1:
            raise InvalidArgumentError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        (name,) = infos
        return {name: _tensor(name, value, infos)}
    arrays = {}
    for name in sorted(infos):
        if name not in value:
            raise InvalidArgumentError(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = _tensor(name, value[name], infos)
    return arrays


def _rows(instances: list[JsonValue], infos: Inputs) -> dict[str, np.ndarray]:
    first = instances[0]
    if len(infos) > 1 and not isinstance(first, dict):
        raise InvalidArgumentError(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    if not _is_object(first):
        name = min(infos)
        array = _fast(instances, _dtype(infos[name]))
        return {name: array} if array is not None else _walk_rows(instances, infos)
    names = infos.keys()
    if all(type(row) is dict and row.keys() == names for row in instances) and "b64" not in names:
        arrays = {name: _fast([row[name] for row in instances], _dtype(infos[name])) for name in sorted(names)}
        if all(array is not None for array in arrays.values()):
            return arrays  # pyright: ignore[reportReturnType]
    return _walk_rows(instances, infos)


def _walk_rows(instances: Sequence[JsonValue], infos: Inputs) -> dict[str, np.ndarray]:
    """Read rows one by one, so that the error names the first row that is wrong."""
    with_names = _is_object(instances[0])
    columns = {name: _Column(_dtype(infos[name])) for name in sorted(infos)}
    for index, row in enumerate(instances):
        if _is_object(row) != with_names:
            wanted, got = ("object", "list") if with_names else ("value/list", "object")
            raise InvalidArgumentError(f"Expecting {wanted} but got {got} at item {index} of input list")
        for name, value in row.items() if with_names else ((min(infos), row),):
            try:
                if name not in columns:
                    raise InvalidArgumentError(f"JSON object: does not have named input: {name}")
                columns[name].add(value)
            except ServingError as error:
                key = f" key: {name}" if with_names else ""
                raise InvalidArgumentError(
                    f"Failed to process element: {index}{key} of 'instances' list. Error: {error}"
                ) from error
        if with_names and row.keys() != infos.keys():
            raise InvalidArgumentError(
                f"Failed to process element: {index} of 'instances' list. JSON object: {excerpt(row)} keys "
                f"must be equal to: {','.join(sorted(infos))}"
            )
    return {
        name: _array(name, column.leaves, (len(instances), *column.shape), column.dtype)
        for name, column in columns.items()
        if column.shape is not None
    }


class _Column:
    """Values of one input, row by row, all of the same shape."""

    def __init__(self, dtype: int):
        self.dtype = dtype
        self.shape: tuple[int, ...] | None = None
        self.leaves: list[Any] = []

    def add(self, value: JsonValue) -> None:
        shape = _shape(value)
        leaves = _leaves(value, shape, self.dtype)
        if self.shape is None:
            self.shape, self._size = shape, len(leaves)
        elif len(leaves) != self._size:
            raise InvalidArgumentError(f"Expecting tensor size: {self._size} but got: {len(leaves)}")
        elif shape != self.shape:
            raise InvalidArgumentError(f"Expecting shape {_shown(self.shape)} but got: {_shown(shape)}")
        self.leaves += leaves


def _tensor(name: str, value: JsonValue, infos: Inputs) -> np.ndarray:
    dtype = _dtype(infos[name])
    array = _fast(value, dtype)
    if array is not None:
        return array
    shape = _shape(value)
    return _array(name, _leaves(value, shape, dtype), shape, dtype)


def _shape(value: JsonValue) -> tuple[int, ...]:
    """Return the shape of a value, as far as its first elements show it."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _leaves(value: JsonValue, shape: tuple[int, ...], dtype: int) -> list[Any]:
    """Return the leaves of a value in order.

    Raises:
        ServingError: If an element does not fit the shape or the dtype; the error names the first one.
    """
    rank = len(shape)
    leaves: list[Any] = []
    todo = [(value, 0)]
    while todo:
        element, level = todo.pop()
        if not isinstance(element, list):
            if level != rank:
                raise InvalidArgumentError(
                    f"JSON Value: {excerpt(element)} found at incorrect level: {level + 1} in the JSON DOM. "
                    f"Expected at level: {rank}"
                )
            leaves.append(_leaf(element, dtype))
        elif level >= rank:
            raise InvalidArgumentError(f"Encountered list at unexpected level: {level} expected < {rank}")
        elif len(element) != shape[level]:
            raise InvalidArgumentError(
                f"Encountered list at unexpected size: {len(element)} at level: {level} expected size: {shape[level]}"
            )
        else:
            todo.extend((child, level + 1) for child in reversed(element))
    return leaves


def _leaf(value: JsonValue, dtype: int) -> Any:
    if isinstance(value, dict):
        if dtype == _STRING:
            return decode_base64(value)
        raise _type_error(value, dtype)
    if dtype in _FLOATS:
        fits = type(value) in (int, float)
    elif dtype in _INTEGER_RANGES:
        low, high = _INTEGER_RANGES[dtype]
        fits = type(value) is int and low <= value <= high
    elif dtype == _BOOL:
        fits = type(value) is bool
    elif dtype == _STRING:
        fits = isinstance(value, str)
    else:
        raise UnimplementedError(f"Conversion of JSON Value: {excerpt(value)} to type: {_dtype_name(dtype)}")
    if not fits:
        raise _type_error(value, dtype)
    return json_writer.encode(value) if isinstance(value, str) else value


def _fast(value: JsonValue, dtype: int) -> np.ndarray | None:
    """Convert a rectangular value whose leaves have one type; return None for any other."""
    shape: list[int] = []
    leaves = [value]
    while leaves and type(leaves[0]) is list:
        if set(map(type, leaves)) != {list} or len(set(map(len, leaves))) != 1:
            return None
        shape.append(len(leaves[0]))
        leaves = list(chain.from_iterable(leaves))
    kinds = set(map(type, leaves))
    if len(shape) > tensors.NUMPY_MAX_RANK or not leaves:
        return None
    if dtype in _FLOATS:
        fits = kinds <= {int, float}
    elif dtype in _INTEGER_RANGES:
        low, high = _INTEGER_RANGES[dtype]
        fits = kinds == {int} and low <= min(leaves) and max(leaves) <= high
    elif dtype == _STRING:
        fits = kinds == {str}
        leaves = list(map(json_writer.encode, leaves)) if fits else leaves
    else:
        fits = dtype == _BOOL and kinds == {bool}
    return _array("", leaves, tuple(shape), dtype) if fits else None


def _array(name: str, leaves: list[Any], shape: tuple[int, ...], dtype: int) -> np.ndarray:
    if len(shape) > tensors.MAX_RANK:
        raise InvalidArgumentError(f"tensor parsing error: {name}")
    if len(shape) > tensors.NUMPY_MAX_RANK:
        raise UnimplementedError(
            f"Input {name} has {len(shape)} dimensions; this server runs tensors of at most {tensors.NUMPY_MAX_RANK}."
        )
    target = tensors.DTYPES.get(dtype, np.dtype(object))  # of another dtype there are no leaves
    if dtype == _STRING:
        array = np.empty(len(leaves), object)
        array[:] = leaves
    elif dtype in _FLOATS and len(leaves) <= _FEW and all(leaf == 0 or _TINY < abs(leaf) < _HUGE for leaf in leaves):
        array = np.array(leaves, np.float64).astype(target)
    elif dtype in _FLOATS:
        with np.errstate(over="ignore"):  # a number beyond float32's range becomes infinite
            array = json_writer.flush_denormals(np.array(leaves, np.float64).astype(target))
    elif dtype == _UINT64:
        array = np.array(leaves, np.uint64)
    elif leaves:
        array = np.array(leaves).astype(target)
    else:
        array = np.empty(0, target)
    return array.reshape(shape)


def is_base64(value: JsonValue) -> bool:
    """Return whether a value is `{"b64": "..."}`."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_object(value: JsonValue) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def decode_base64(value: dict[str, JsonValue]) -> bytes:
    """Return the bytes of `{"b64": "..."}`; the padding may be left out.

    Raises:
        InvalidArgumentError: If the value has another form, or its text is not base64.
    """
    if not is_base64(value):
        raise malformed(value, "not formatted correctly for base64 data")
    text = "".join(value["b64"].split())
    digits = text.rstrip("=.")
    padding = -len(digits) % 4
    try:
        if padding == 3 or len(text) - len(digits) not in (0, padding):
            raise binascii.Error
        return base64.b64decode(digits + "=" * padding, validate=True)
    except ValueError as error:
        raise InvalidArgumentError("Unable to base64 decode") from error


def _dtype(info: Any) -> int:
    return info.dtype


def _dtype_name(dtype: int) -> str:
    return _DTYPE_NAMES.get(dtype, f"dtype {dtype}")


def _shown(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def malformed(value: JsonValue, reason: str) -> InvalidArgumentError:
    """Make an error that shows a value and the reason why it is wrong."""
    return InvalidArgumentError(f"JSON Value: {excerpt(value)} {reason}")


def type_name(value: JsonValue) -> str:
    """Return the name of a value's type in error texts."""
    names = {type(None): "Null", bool: str(value), dict: "Object", list: "Array", str: "String"}
    return names.get(type(value), "Number")


def _type_error(value: JsonValue, dtype: int) -> InvalidArgumentError:
    return malformed(value, f"Type: {type_name(value)} is not of expected type: {_dtype_name(dtype)}")
