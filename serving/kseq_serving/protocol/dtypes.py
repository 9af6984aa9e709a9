"""TensorFlow dtypes of NumPy arrays, and their names in error texts."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2

_NAMES = {tf.float32: "float", tf.float64: "double", tf.float16: "half"}


def dtype_of(array: np.ndarray) -> tf.DType:
    """Return the TensorFlow dtype of an array; object arrays hold strings."""
    return _dtype_of(array.dtype)


@functools.lru_cache
def _dtype_of(dtype: np.dtype) -> tf.DType:
    return tf.string if dtype.kind == "O" else tf.as_dtype(dtype)


def dtype_name(dtype: tf.DType) -> str:
    """Return the name of a dtype in TensorFlow's error texts, such as `float` for `float32`."""
    return _NAMES.get(dtype, dtype.name)


def proto_name(array: np.ndarray) -> str:
    """Return the name of an array's dtype in protocol buffers, such as `DT_FLOAT` for `float32`."""
    return types_pb2.DataType.Name(dtype_of(array).as_datatype_enum)
