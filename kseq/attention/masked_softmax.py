"""The softmax of attention scores, which ignores padding."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor

SCORE_ZERO = -1e30  # finite: with -inf, a row without any real step would give -inf + inf = NaN


def at_least_float32(dtype: Any) -> str:
    """Return the dtype of weights that are computed from `dtype`: float32, or float64 for float64."""
    return keras.backend.result_type(dtype, "float32")


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Return the softmax over time of `scores` `(batch, queries, time)`, zero where the mask is False.

    The mask is bool `(batch, time)`, or `(batch, queries, time)` if each query has its own. The result is float32
    (float64 for float64 scores). A row without a real step gives zeros.
    """
    scores = ops.cast(scores, at_least_float32(scores.dtype))
    if mask is None:  # of one step, Keras warns
        return ops.ones_like(scores) if scores.shape[-1] == 1 else ops.softmax(scores, axis=-1)
    mask = mask[:, None, :] if len(mask.shape) == 2 else mask  # (batch, 1 or queries, time)
    scores = ops.where(mask, scores, SCORE_ZERO)
    largest = ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True, initial=SCORE_ZERO))
    exponentials = ops.where(mask, ops.exp(scores - largest), 0.0)
    total = ops.sum(exponentials, axis=-1, keepdims=True)  # (batch, queries, 1)
    return exponentials / ops.where(total > 0, total, 1.0)
