"""Special functions on TensorFlow."""

import tensorflow as tf


def log_gamma(values: tf.Tensor) -> tf.Tensor:
    """Return log |gamma(x)| of each value."""
    return tf.math.lgamma(values)


def incomplete_beta(a: tf.Tensor, b: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Return the regularised incomplete beta function I_x(a, b), for a, b > 0 and x from 0 to 1, of one shape.

    It is computed in float64, since (1 - x) ** b has no digits left in float32 if b is large. TensorFlow has no
    gradient of it for a and b.

    Args:
        a: First parameter.
        b: Second parameter.
        x: The share at which it is computed.
        y: 1 - x, with digits that a difference of float32 numbers would not have.
    """
    exact = tf.where(x < 0.5, tf.cast(x, tf.float64), 1.0 - tf.cast(y, tf.float64))
    return tf.cast(tf.math.betainc(tf.cast(a, tf.float64), tf.cast(b, tf.float64), exact), x.dtype)
