"""Decoding of a file in the graph that cannot fail the whole request."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def decoded_or(fallback: Any, decode: Callable[[tf.Tensor], Any], file: tf.Tensor) -> Any:
    """Return `(whole, result)`: whether `file` can be decoded, and `decode(file)` or else `fallback`.

    An operation that raises in a graph fails the whole request, and the only operation that goes on after an error is
    `tf.data.Dataset.ignore_errors`. So the file becomes a dataset of one element, which an error leaves empty. This
    takes about 0.1 ms.

    Args:
        fallback: Tensors in the structure that `decode` returns.
        decode: Function of the file, made of operations of TensorFlow.
        file: Scalar string.
    """
    decoded = tf.data.Dataset.from_tensors(file).map(lambda of: (True, decode(of))).ignore_errors()
    found = decoded.concatenate(tf.data.Dataset.from_tensors((False, fallback))).take(1).with_options(_options())
    return found.get_single_element()


def _options() -> tf.data.Options:
    """Return options for a dataset that is read once, in the thread of the request."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    options.threading.private_threadpool_size = 0
    return options
