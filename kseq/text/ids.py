"""Conversion of token ids, in lists, arrays or tensors, to one padded tensor."""

import reprlib
from typing import Any

import tensorflow as tf


def as_ids(ids: Any, pad_id: int) -> tf.Tensor:
    """Return token ids as int64 `(..., time)`; rows of unequal lengths are padded with `pad_id`.

    Args:
        ids: Integers `(..., time)`, ragged `(..., (time))`, or lists of lists, of equal lengths or not.
        pad_id: The padding.

    Raises:
        ValueError: If they are not integers, or have no axis.
    """
    if hasattr(ids, "_fields"):
        raise ValueError(f"Expected ids, got a {type(ids).__name__}. Give its tokens: detokenize(decoded.tokens).")
    if not isinstance(ids, tf.RaggedTensor):
        ids = _converted(ids)
    if isinstance(ids, tf.RaggedTensor):
        ids = ids.to_tensor(pad_id if ids.dtype.is_integer else None)
    if ids.shape.rank == 0 or not ids.dtype.is_integer:
        raise ValueError(
            f"Expected integer ids of shape (..., time), got {ids.dtype.name} of shape {tuple(ids.shape)}. "
            "Put a single id into a list."
        )
    return tf.cast(ids, tf.int64)  # 8-bit ids could not be compared with the vocabulary's size


def _converted(ids: Any) -> Any:
    """Return a tensor, or a ragged tensor of lists of unequal lengths."""
    try:
        tensor = tf.convert_to_tensor(ids)
    except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
        try:
            return tf.ragged.constant(_lists(ids))
        except (TypeError, ValueError):
            raise ValueError(
                f"Expected integer ids of shape (..., time), or lists of lists, got {reprlib.repr(ids)}: {error}"
            ) from error
    # TensorFlow takes an empty list for floats.
    return tf.cast(tensor, tf.int32) if isinstance(ids, list | tuple) and 0 in tensor.shape else tensor


def _lists(ids: Any) -> Any:
    """Return lists and arrays in lists as lists of Python's numbers."""
    if isinstance(ids, list | tuple):
        return [_lists(each) for each in ids]
    return ids.numpy().tolist() if tf.is_tensor(ids) else getattr(ids, "tolist", lambda: ids)()
