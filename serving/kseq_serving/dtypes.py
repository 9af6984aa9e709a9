"""TensorFlow's dtypes of NumPy arrays, and their names in error texts."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

_NAMES = {tf.float32: "float", tf.float64: "double", tf.float16: "half"}


def dtype_of(array: np.ndarray) -> tf.DType:
    """The dtype of an array; object arrays hold strings."""
    return tf.string if array.dtype == object else tf.as_dtype(array.dtype)


def dtype_name(dtype: tf.DType) -> str:
    """The name that TensorFlow's error texts use, ``float`` for ``float32``."""
    return _NAMES.get(dtype, dtype.name)
