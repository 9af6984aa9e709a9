"""Random numbers on TensorFlow."""

from typing import Any

import keras
import tensorflow as tf

MANTISSA = 2**23 - 1  # the bits of a float32 from which a uniform number is made


def random_key_words(seed: Any) -> None:
    """Return the numbers of a random key that only this backend has, or None: TensorFlow has no such keys."""
    return


def random_bits(shape: Any, seed: keras.random.SeedGenerator) -> tf.Tensor:
    """Return uint32 random numbers of the given shape, all 32 bits of which are random.

    The algorithm is set explicitly, because XLA's default takes up to a hundred times as long on a CPU.
    """
    all_bits: Any = None  # instead of a range
    return tf.random.stateless_uniform(
        shape, seed=_next_seed(seed), minval=all_bits, maxval=all_bits, dtype=tf.uint32, alg="philox"
    )


def dropout_mask(like: tf.Tensor, rate: float, seed: keras.random.SeedGenerator) -> tf.Tensor:
    """Return a dropout mask of the shape of `like`: 0 with probability `rate`, and 1 / (1 - rate) otherwise.

    It drops the same units as `keras.random.dropout` in float32 without XLA, in any precision, compiled or not.
    """
    if rate >= 1.0:
        return tf.zeros_like(like)
    bits = tf.bitwise.bitwise_and(random_bits(tf.shape(like), seed), tf.constant(MANTISSA, tf.uint32))
    numbers = tf.cast(bits, tf.float32) / (MANTISSA + 1.0)  # in [0, 1)
    return tf.ensure_shape(tf.where(numbers >= rate, tf.cast(1.0 / (1.0 - rate), like.dtype), 0), like.shape)


def fresh_seed() -> tf.Tensor:
    """Return an int32 scalar seed that differs at each call, also of a compiled or exported function."""
    return tf.random.uniform((), maxval=tf.int32.max, dtype=tf.int32)


def _next_seed(seed: keras.random.SeedGenerator) -> tf.Tensor:
    """Return the next seed as int32, which XLA needs, from Keras's int64 state, reduced in the same way as by Keras."""
    return tf.cast(tf.math.floormod(seed.next(), tf.int32.max - 1), tf.int32)
