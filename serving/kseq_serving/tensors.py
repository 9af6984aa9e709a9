"""TensorProto to NumPy array and back, in the forms TensorFlow Serving reads and answers in."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from kseq_serving.dtypes import dtype_of
from kseq_serving.protos import TensorProto

MAX_RANK = 254  # TensorFlow's own limit
NUMPY_MAX_RANK = 64  # and NumPy's, which is what a run takes here

# A proto may name a shape and one value, which then fills the tensor. Ten bytes must not take all memory.
MAX_FILLED_ELEMENTS = 1 << 26

_LENGTH_DELIMITED = 2  # protocol buffers' wire type
_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
    tf.complex64: "scomplex_val",
    tf.complex128: "dcomplex_val",
    tf.float16: "half_val",
    tf.bfloat16: "half_val",
    tf.int8: "int_val",
    tf.int16: "int_val",
    tf.int32: "int_val",
    tf.uint8: "int_val",
    tf.uint16: "int_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
}
# How a value stands in its field, where that is not the tensor's own dtype.
_STORED_AS = {
    tf.complex64: np.float32,
    tf.complex128: np.float64,
    tf.float16: np.uint16,
    tf.bfloat16: np.uint16,
}
# Fields whose packed wire form is the array's own memory.
_RAW_FIELDS = frozenset(("float_val", "double_val", "bool_val", "scomplex_val", "dcomplex_val"))


def to_array(proto: TensorProto) -> np.ndarray:
    """The array a TensorProto stands for; too few values are filled up with the last one, or with zeros.

    Raises:
        ValueError: the proto is no tensor (unknown dtype, negative size, content of another length ...).
    """
    try:
        dtype = tf.as_dtype(proto.dtype)
        field = _FIELDS[dtype]
    except (KeyError, TypeError) as error:
        raise ValueError(f"no dtype of a tensor: {proto.dtype}") from error
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if len(shape) > NUMPY_MAX_RANK or any(size < 0 for size in shape):
        raise ValueError(f"no shape of a tensor: {shape}")
    if dtype == tf.string:
        values = _strings(proto)
    elif proto.tensor_content:
        return np.frombuffer(proto.tensor_content, dtype.as_numpy_dtype).reshape(shape)
    else:
        values = _numbers(getattr(proto, field), dtype)
    return _fill(values, math.prod(shape)).reshape(shape)


def _numbers(values: Iterable[float], dtype: tf.DType) -> np.ndarray:
    target = np.dtype(dtype.as_numpy_dtype)
    if _STORED_AS.get(dtype) is np.uint16:
        return np.fromiter(values, np.int32).astype(np.uint16).view(target)  # half_val is wider than its values
    if dtype in _STORED_AS:
        return np.fromiter(values, _STORED_AS[dtype]).view(target)
    if target.kind in "iu" and target.itemsize < 4:
        return np.fromiter(values, np.int32).astype(target)  # int_val is wider than these, and wraps
    return np.fromiter(values, target)


def _fill(values: np.ndarray, count: int) -> np.ndarray:
    if len(values) >= count:
        return values[:count]
    if count > MAX_FILLED_ELEMENTS:
        raise ValueError(f"{len(values)} values for {count} elements")
    filled = np.full(count, b"", object) if values.dtype == object else np.zeros(count, values.dtype)
    filled[: len(values)] = values
    if len(values):
        filled[len(values) :] = values[-1]
    return filled


def _strings(proto: TensorProto) -> np.ndarray:
    values = list(proto.string_val)
    if proto.tensor_content:
        values = _split_strings(proto.tensor_content, math.prod(dim.size for dim in proto.tensor_shape.dim))
    array = np.empty(len(values), object)
    array[:] = values
    return array


def to_proto(array: np.ndarray, *, as_content: bool = False) -> TensorProto:
    """The TensorProto of an array.

    Args:
        array: any dtype that TensorFlow has; strings as an object array of bytes.
        as_content: pack the values into ``tensor_content`` instead of the typed ``*_val`` field.
    """
    dtype = dtype_of(array)
    field = _FIELDS.get(dtype)
    proto = TensorProto(dtype=dtype.as_datatype_enum)
    proto.tensor_shape.SetInParent()  # a scalar has a shape too, an empty one
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if field is None or as_content:
        proto.tensor_content = _join_strings(array) if dtype == tf.string else array.tobytes()
    elif field in _RAW_FIELDS:
        _merge_packed(proto, TensorProto.DESCRIPTOR.fields_by_name[field].number, array.tobytes())
    else:
        values = array.ravel()
        getattr(proto, field).extend(values.view(_STORED_AS.get(dtype, values.dtype)).tolist())
    return proto


def _merge_packed(proto: TensorProto, field: int, data: bytes) -> None:
    """Appends a packed repeated field from its wire form, without a Python object per value."""
    if data:
        proto.MergeFromString(_varint(field << 3 | _LENGTH_DELIMITED) + _varint(len(data)) + data)


def _join_strings(array: np.ndarray) -> bytes:
    """Strings in ``tensor_content``: all lengths as varints, then all bytes."""
    values = array.ravel().tolist()
    return b"".join([*(_varint(len(value)) for value in values), *values])


def _split_strings(content: bytes, count: int) -> list[bytes]:
    lengths: list[int] = []
    position = length = shift = 0
    while len(lengths) < count:
        if position >= len(content):
            raise ValueError("string lengths run over the end of tensor_content")
        byte = content[position]
        position += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            lengths.append(length)
            length = shift = 0
    if position + sum(lengths) != len(content):
        raise ValueError("tensor_content holds more or fewer bytes than its string lengths say")
    values = []
    for length in lengths:
        values.append(content[position : position + length])
        position += length
    return values


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
