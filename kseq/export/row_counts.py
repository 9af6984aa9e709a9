"""A check that the tensors of a request have the same number of rows."""

from collections.abc import Collection, Mapping

import tensorflow as tf


def check_rows(tensors: Mapping[str, tf.Tensor], optional: Collection[str] = ()) -> dict[str, tf.Tensor]:
    """Return `tensors`, in a graph that fails if they have different numbers of rows.

    It is not known which rows belong together, so the request fails as a whole. A server that batches never puts such
    a request into a batch. In a server whose graphs are stripped of assertions (TensorFlow's `debug_stripper`), the
    reshaping fails in their place; without it, an operation would apply a single row to all others.

    Args:
        tensors: Tensors `(batch, ...)` by name, of which one is not optional.
        optional: Names of those that may be without rows.
    """
    first = next(name for name in tensors if name not in optional)
    rows, checks, expected = tf.shape(tensors[first])[0], [], {}
    for name, tensor in tensors.items():
        count = tf.shape(tensor)[0]
        expected[name] = tf.where(tf.equal(count, 0), 0, rows) if name in optional else rows
        text = f"{first} and {name} must have the same number of rows, but they have"
        if name != first:
            checks.append(tf.debugging.Assert(tf.equal(count, expected[name]), [text, rows, count]))
    same = {}
    with tf.control_dependencies([check for check in checks if check is not None]):
        for name, tensor in tensors.items():
            shape = tf.concat([[expected[name]], tf.shape(tensor)[1:]], axis=0)
            same[name] = tf.reshape(tensor, shape, name="tensors_must_have_the_same_number_of_rows")
            same[name].set_shape(tensor.shape)  # a claim, as the signature's: who reads the tensor looks at its sizes
    return same
