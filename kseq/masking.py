"""Masks and lengths of padded sequences: conversions, checks, and operations that ignore padding.

A mask is bool `(batch, time)`, True at a real step; lengths are int32 `(batch,)`; padding is at the end.
"""

from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask  # no public API

from kseq.backend import Tensor, known_value


def mask_from_lengths(lengths: Tensor, time: int | Tensor) -> Tensor:
    """Return the mask, bool `(batch, time)`, of rows with `lengths` int `(batch,)`.

    Example:
        >>> mask_from_lengths(np.array([2, 0]), 3)
        [[True, True, False], [False, False, False]]
    """
    return ops.arange(time, dtype="int32") < ops.expand_dims(ops.cast(lengths, "int32"), 1)


def lengths_from_mask(mask: Tensor) -> Tensor:
    """Return the number of real steps of each row of `mask` `(batch, time)`, int32 `(batch,)`."""
    return ops.sum(ops.cast(mask, "int32"), axis=1)


def lengths_of_prefixes(mask: Tensor) -> Tensor:
    """Return the lengths of `lengths_from_mask`, for algorithms that need all padding at the end of its row.

    In a graph, a row with padding before a real step gets the length `time + 1`, which no row has.

    Raises:
        ValueError: If the mask is known (outside compiled graphs) and there is such a row.
    """
    mask = ops.cast(mask, "bool")
    lengths, time = lengths_from_mask(mask), ops.shape(mask)[1]
    right = ops.all(mask == mask_from_lengths(lengths, time), axis=1)
    known = known_value(right)
    if known is not None and not known.all():
        raise ValueError(
            f"Row {int(np.argmin(known))} of the mask has padding before a real step. Pad sequences at their end, and "
            "let masks tell padding alone."
        )
    return ops.where(right, lengths, time + 1)


def zero_padding(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return `values` `(batch, time, ...)` with zeros where `mask` is False.

    The padding is *replaced*, not multiplied by zero, so NaN in the padding reaches neither values nor gradients:
    `where` sends no gradient to the branch that is not selected.
    """
    if mask is None:
        return values
    return ops.where(align_mask(mask, values), values, ops.zeros_like(values))


def align_mask(mask: Tensor, values: Tensor) -> Tensor:
    """Return `mask` reshaped for broadcasting with `values`: trailing axes of length 1, up to the rank of `values`."""
    return ops.reshape(mask, (*ops.shape(mask), *([1] * (len(values.shape) - len(mask.shape)))))


def hold_last(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return `values` with each masked step replaced by the row's last real step before it.

    Masked steps before a row's first real step get arbitrary steps of the row.

    Args:
        values: `(time, batch, ...)`, time first.
        mask: Bool `(time, batch)`, or None.
    """
    if mask is None:
        return values
    time = ops.shape(mask)[0]
    steps = ops.arange(time, dtype="int32")[:, None]  # (time, 1)
    real_steps = ops.sort(ops.where(mask, steps, time), axis=0)  # index n: the n-th real step of each row
    count = ops.cumsum(ops.cast(mask, "int32"), axis=0)  # real steps up to each step
    last = ops.take_along_axis(real_steps, ops.maximum(count - 1, 0), axis=0)
    return _take_steps(values, ops.minimum(last, time - 1))


def last_real(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the values of each row's last real step, `(batch, ...)`, for `values` `(time, batch, ...)`."""
    if mask is None:
        return values[-1]
    steps = ops.arange(ops.shape(mask)[0], dtype="int32")[:, None]  # (time, 1)
    return _take_steps(values, ops.max(ops.where(mask, steps, 0), axis=0, initial=0))


def _take_steps(values: Tensor, index: Tensor) -> Tensor:
    """Return `values[index[..., row], row]`, for values `(time, batch, ...)` and an index `(..., batch)`."""
    time, batch, *rest = ops.shape(values)
    rows = index * batch + ops.arange(batch, dtype="int32")
    return ops.take(ops.reshape(values, (time * batch, *rest)), rows, axis=0)


def check_mask(mask: Tensor | None, values: Tensor, *, name: str = "mask") -> Tensor | None:
    """Return `mask` as bool `(batch, time)`, or raise if its shape does not match `values` `(batch, time, ...)`.

    Raises:
        ValueError: If the mask's rank or a static dimension differs from that of `values`.
    """
    if mask is None:
        return None
    mask = ops.convert_to_tensor(mask)
    expected = tuple(values.shape[:2])
    fits = len(mask.shape) == 2 and all(
        have is None or want is None or have == want for have, want in zip(mask.shape, expected, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{name} has shape {tuple(mask.shape)}, but the sequence has shape {tuple(values.shape)}: expected {name} "
            f"of shape (batch, time) = {expected}, True at the real steps. "
            "Make one with kseq.masking.mask_from_lengths(lengths, time)."
        )
    return mask if keras.backend.standardize_dtype(mask.dtype) == "bool" else ops.cast(mask, "bool")


def refuse_ragged(values: Any, owner: str) -> None:
    """Raise if `values` is a ragged tensor.

    Args:
        values: A tensor.
        owner: Name of the class that was given it.

    Raises:
        ValueError: With how to convert it.
    """
    if hasattr(values, "nested_row_splits") or getattr(values, "ragged", False):
        raise ValueError(
            f"{owner} takes dense tensors, but got a ragged one of shape {tuple(values.shape)}. Pad it and give a "
            "mask: values=x.to_tensor(), mask=kseq.masking.mask_from_lengths(x.row_lengths(), time)."
        )


def implicit_mask(values: Tensor) -> Tensor | None:
    """Return the mask that Keras attaches to a layer's output, bool `(batch, time)`, or None."""
    return get_keras_mask(values)


def set_implicit_mask(values: Tensor, mask: Tensor) -> None:
    """Attach `mask`, bool `(batch, time)`, to `values` as its implicit Keras mask."""
    set_keras_mask(values, mask)


def token_weights(like: Tensor, mask: Tensor | None, sample_weight: Tensor | None) -> Tensor:
    """Return the weight of each token in a mean, `(batch, time)` in the dtype of `like`: zero where the mask is False.

    Args:
        like: `(batch, time)`.
        mask: Bool `(batch, time)`, or None.
        sample_weight: `(batch,)`, `(batch, 1)`, `(batch, time)` or `(batch, time, 1)`, or None.

    Raises:
        ValueError: If `sample_weight` has another shape.
    """
    weights = ops.ones_like(like) if mask is None else ops.cast(mask, like.dtype)
    if sample_weight is None:
        return weights
    sample_weight = ops.cast(sample_weight, like.dtype)
    shape, (batch, time) = known_shape(sample_weight), tuple(like.shape)
    if shape is None:  # in a TensorFlow graph
        return weights * ops.reshape(sample_weight, (ops.shape(like)[0], -1))
    if len(shape) == 3 and shape[2] in (1, None):
        sample_weight, shape = sample_weight[..., 0], shape[:2]
    rows = None in (batch, *shape[:1]) or shape[:1] in ((), (batch,))
    fits = len(shape) < 2 or (len(shape) == 2 and (None in (time, shape[1]) or shape[1] in (1, time)))
    if not rows or not fits:
        raise ValueError(
            f"sample_weight has shape {shape}, but there are tokens of shape {(batch, time)}: give a weight for each "
            f"row, {(batch,)}, or for each token, {(batch, time)}."
        )
    return weights * align_mask(sample_weight, like)


def known_shape(values: Tensor) -> tuple | None:
    """Return the shape of a tensor, or None if not even its rank is known before a graph runs."""
    try:
        return tuple(values.shape)
    except ValueError:  # of TensorFlow
        return None
