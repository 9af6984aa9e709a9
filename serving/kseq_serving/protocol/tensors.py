"""Conversion between TensorProto and NumPy arrays, in TensorFlow Serving's forms but without TensorFlow."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import ml_dtypes
import numpy as np

from kseq_serving.budget import Budget

if TYPE_CHECKING:
    from kseq_serving.protocol.protos import TensorProto  # its module imports TensorFlow

MAX_RANK = 254  # of TensorFlow
# Of NumPy, whose arrays a run takes.
NUMPY_MAX_RANK = 64 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 32

# Some tensors take far more memory than their messages: a large shape with one value, which fills it, and many short
# strings. Small requests must not exhaust the memory.
MAX_EXTRA_BYTES = 1 << 28
MAX_EXTRA_TOGETHER = 1 << 30
_FEW_BYTES = 1 << 16  # that are not counted
_STRING_BYTES = 80  # of one string: Python's object, TensorFlow's, and a reference
_extra_together = Budget(MAX_EXTRA_TOGETHER, "The tensors that are larger than their messages")

STRING = 7
_MAX_LENGTH_BYTES = 5  # of the varint before a string
_LENGTH_DELIMITED = 2  # protocol buffers' wire type


class _Kind(NamedTuple):
    """Dtype of tensors.

    Attributes:
        dtype: NumPy's dtype.
        field: Field of a TensorProto that holds the values.
        stored_as: Type of the values in that field, if it is not that of the dtype.
    """

    dtype: np.dtype
    field: str
    stored_as: type | None = None


# By their numbers in DataType. Strings are object arrays of bytes.
_KINDS = {
    1: _Kind(np.dtype(np.float32), "float_val"),
    2: _Kind(np.dtype(np.float64), "double_val"),
    3: _Kind(np.dtype(np.int32), "int_val"),
    4: _Kind(np.dtype(np.uint8), "int_val"),
    5: _Kind(np.dtype(np.int16), "int_val"),
    6: _Kind(np.dtype(np.int8), "int_val"),
    STRING: _Kind(np.dtype(object), "string_val"),
    8: _Kind(np.dtype(np.complex64), "scomplex_val", np.float32),
    9: _Kind(np.dtype(np.int64), "int64_val"),
    10: _Kind(np.dtype(np.bool_), "bool_val"),
    14: _Kind(np.dtype(ml_dtypes.bfloat16), "half_val", np.uint16),
    17: _Kind(np.dtype(np.uint16), "int_val"),
    18: _Kind(np.dtype(np.complex128), "dcomplex_val", np.float64),
    19: _Kind(np.dtype(np.float16), "half_val", np.uint16),
    22: _Kind(np.dtype(np.uint32), "uint32_val"),
    23: _Kind(np.dtype(np.uint64), "uint64_val"),
}
DTYPES: Mapping[int, np.dtype] = {number: kind.dtype for number, kind in _KINDS.items()}
"""NumPy's dtypes by their numbers in DataType; strings are object arrays of bytes."""

# Fields whose serialised form equals the array's memory.
_RAW_FIELDS = frozenset(("float_val", "double_val", "bool_val", "scomplex_val", "dcomplex_val"))


def to_array(proto: TensorProto) -> np.ndarray:
    """Convert a TensorProto to an array; missing values equal the last one, or zero if there are none.

    Raises:
        ValueError: If the proto is not a valid tensor (unknown dtype, negative size, content of another length ...).
        ServingError: If the tensors that are larger than their messages are too large together now.
    """
    kind = _KINDS.get(proto.dtype)
    if kind is None:
        raise ValueError(f"no dtype of a tensor: {proto.dtype}")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if len(shape) > NUMPY_MAX_RANK or any(size < 0 for size in shape):
        raise ValueError(f"no shape of a tensor: {shape}")
    if proto.dtype == STRING:
        values = _strings(proto)
    elif proto.tensor_content:
        return np.frombuffer(proto.tensor_content, kind.dtype).reshape(shape)
    else:
        values = _numbers(getattr(proto, kind.field), kind)
    return _fill(values, math.prod(shape)).reshape(shape)


def _numbers(values: Iterable[float], kind: _Kind) -> np.ndarray:
    target = kind.dtype
    if kind.stored_as is np.uint16:
        # half_val holds the bits of each value in an int32.
        return np.fromiter(values, np.int32).astype(np.uint16).view(target)
    if kind.stored_as:
        return np.fromiter(values, kind.stored_as).view(target)
    if target.kind in "iu" and target.itemsize < 4:
        return np.fromiter(values, np.int32).astype(target)  # int_val holds int32; narrower values wrap around
    return np.fromiter(values, target)


def _fill(values: np.ndarray, count: int) -> np.ndarray:
    if len(values) >= count:
        return values[:count]
    missing = count - len(values)
    size = missing * values.itemsize
    if values.dtype == object:
        size = missing * (_STRING_BYTES + (len(values[-1]) if len(values) else 0))
    if size > MAX_EXTRA_BYTES:
        raise ValueError(f"{len(values)} values for {count} elements")
    filled = np.full(count, b"", object) if values.dtype == object else np.zeros(count, values.dtype)
    _count_extra(filled, size)
    filled[: len(values)] = values
    if len(values):
        filled[len(values) :] = values[-1]
    return filled


def _count_extra(array: np.ndarray, size: int) -> None:
    """Count bytes that an array takes beyond its message, as long as it exists.

    Raises:
        ServingError: If all such arrays are too large together.
    """
    if size > _FEW_BYTES:
        _extra_together.take(size)
        weakref.finalize(array, _extra_together.give_back, size)


def _strings(proto: TensorProto) -> np.ndarray:
    count = len(proto.string_val)
    if proto.tensor_content:  # each length takes at least one byte, so more are never found
        count = min(math.prod(dim.size for dim in proto.tensor_shape.dim), len(proto.tensor_content) + 1)
    if count * _STRING_BYTES > MAX_EXTRA_BYTES:
        raise ValueError(f"{count} strings")
    array = np.empty(count, object)
    _count_extra(array, count * _STRING_BYTES)
    array[:] = _split_strings(proto.tensor_content, count) if proto.tensor_content else list(proto.string_val)
    return array


def fill(proto: TensorProto, array: np.ndarray, dtype: int, *, as_content: bool = False) -> None:
    """Write an array into an empty TensorProto.

    Args:
        proto: TensorProto to fill.
        array: Array of any dtype that TensorFlow has; strings as an object array of bytes.
        dtype: Number of the array's dtype in DataType.
        as_content: Whether to write the values to `tensor_content` instead of the typed `*_val` field.
    """
    kind = _KINDS.get(dtype)
    proto.dtype = dtype
    proto.tensor_shape.SetInParent()  # a scalar has a shape too, without dimensions
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if kind is None or as_content:
        proto.tensor_content = _join_strings(array) if dtype == STRING else array.tobytes()
    elif kind.field in _RAW_FIELDS:
        _merge_packed(proto, proto.DESCRIPTOR.fields_by_name[kind.field].number, array.tobytes())
    else:
        values = array.ravel()
        getattr(proto, kind.field).extend(values.view(kind.stored_as or values.dtype).tolist())


def _merge_packed(proto: TensorProto, field: int, data: bytes) -> None:
    """Append serialised values to a packed repeated field, without a Python object per value."""
    if data:
        proto.MergeFromString(_varint(field << 3 | _LENGTH_DELIMITED) + _varint(len(data)) + data)


def _join_strings(array: np.ndarray) -> bytes:
    """Return strings in the form of `tensor_content`: all lengths as varints, then all bytes."""
    values = array.ravel().tolist()
    return b"".join([*(_varint(len(value)) for value in values), *values])


def _split_strings(content: bytes, count: int) -> list[bytes]:
    """Split `tensor_content` into its strings, in a number of steps that grows with `count` alone."""
    head = np.frombuffer(content, np.uint8, min(len(content), count * _MAX_LENGTH_BYTES))
    last_bytes = np.flatnonzero(head < 0x80)[:count]
    if len(last_bytes) < count:
        raise ValueError("string lengths run over the end of tensor_content, or take more than 5 bytes")
    first_bytes = np.concatenate([[0], last_bytes[:-1] + 1])[:count]
    sizes = last_bytes - first_bytes
    if (sizes >= _MAX_LENGTH_BYTES).any():
        raise ValueError(f"a string length takes more than {_MAX_LENGTH_BYTES} bytes")
    lengths = np.zeros(count, np.int64)
    for index in range(_MAX_LENGTH_BYTES):
        longer = sizes >= index
        lengths[longer] |= (head[first_bytes[longer] + index].astype(np.int64) & 0x7F) << (7 * index)
    start = int(last_bytes[-1]) + 1 if count else 0
    # A single length is compared first, because the sum of many huge ones could overflow.
    if (lengths > len(content)).any() or start + int(lengths.sum()) != len(content):
        raise ValueError("tensor_content holds more or fewer bytes than its string lengths say")
    ends = (start + np.cumsum(lengths)).tolist()
    return [content[begin:end] for begin, end in zip([start, *ends], ends, strict=False)]


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
