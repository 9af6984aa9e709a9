"""Checks and functions of the batches of a `tf.data.Dataset`, from which models are trained on every Keras backend."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def checked_dataset(
    dataset: tf.data.Dataset,
    tensors_of: Callable[[Any], list[tf.Tensor]],
    is_right: Callable[..., tf.Tensor],
    refuse: Callable[..., None],
) -> tf.data.Dataset:
    """Return `dataset` with a check of each of its elements.

    The check is a step of the dataset. So the training step gets no further operation, and XLA changes nothing.

    Args:
        dataset: Any dataset.
        tensors_of: Takes an element; returns those of its tensors that are checked.
        is_right: Takes these tensors; returns a bool scalar, computed by TensorFlow's operations.
        refuse: Called with these tensors as arrays if they are not right; raises an error.

    Returns:
        The dataset. TensorFlow wraps the error that `refuse` raised in one of its own; the list `refusals`, an
        attribute of the dataset, contains the error itself.
    """
    refusals: list[Exception] = []

    def refused(*arrays: Any) -> bool:
        try:
            refuse(*arrays)
        except Exception as error:
            refusals.append(error)
            raise
        return False

    def check(element: Any) -> Any:
        tensors = tensors_of(element)
        checked = tf.cond(is_right(*tensors), lambda: True, lambda: tf.numpy_function(refused, tensors, tf.bool))
        with tf.control_dependencies([checked]):
            return tf.nest.map_structure(lambda x: tf.identity(x) if tf.is_tensor(x) else x, element)

    answer: Any = mapped_dataset(dataset, check)
    answer.refusals = refusals
    return answer


def mapped_dataset(dataset: tf.data.Dataset, function: Callable[[Any], Any]) -> tf.data.Dataset:
    """Return a dataset with a function of each element.

    The attributes `shapes`, `refusals`, `order` and `worker` of `dataset`, see `kseq.training.bucket_by_length`, go
    over to it.
    """

    def of_parts(*parts: Any) -> Any:
        return function(parts if isinstance(dataset.element_spec, tuple) else parts[0])

    answer: Any = dataset.map(of_parts)
    for name in ("shapes", "refusals", "order", "worker"):
        if hasattr(dataset, name):
            setattr(answer, name, getattr(dataset, name))
    return answer


def looked_up(places: tf.Tensor, table: Any, flat: bool) -> tf.Tensor:
    """Return numbers of a table `(size,)`, for places out of range the last one; `flat`: as a vector."""
    places = tf.cast(tf.reshape(places, [-1]) if flat else places, tf.int32)
    outside = (places < 0) | (places >= len(table))
    return tf.gather(tf.constant(table), tf.where(outside, len(table) - 1, places))


def as_float(values: tf.Tensor) -> tf.Tensor:
    """Return float32 numbers."""
    return tf.cast(values, tf.float32)


def have_ends(target: tf.Tensor, lengths: tf.Tensor, bos_id: int, eos_id: int) -> tf.Tensor:
    """Return whether every row begins with `bos_id` and ends with `eos_id`, a bool scalar.

    Args:
        target: Numbers `(batch, time)`.
        lengths: Numbers `(batch,)`; rows whose length is not between 1 and `time` are not looked at.
        bos_id: Id of the begin token.
        eos_id: Id of the end token.
    """
    lengths = tf.cast(lengths, tf.int32)[:, None]
    time = tf.shape(target)[1]
    places = tf.range(time)
    begins = (places == 0) & (target == tf.cast(bos_id, target.dtype)) & (lengths > 1)
    ends = (places == lengths - 1) & (target == tf.cast(eos_id, target.dtype))
    has_both = tf.reduce_any(begins, axis=1) & tf.reduce_any(ends, axis=1)
    return tf.reduce_all(has_both | (lengths < 1)[:, 0] | (lengths > time)[:, 0])
