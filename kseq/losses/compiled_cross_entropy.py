"""The cross-entropy of tokens from a large vocabulary, compiled by XLA in graphs that are not compiled.

TensorFlow reads and writes the logits in each of its operations; XLA reads them once in each direction.
"""

import numpy as np
from keras import ops

from kseq import backend
from kseq.backend import Tensor
from kseq.compiled_parts import Differentiable, compiles_parts
from kseq.eager_calls import sizes_of
from kseq.padded_sizes import pad_unknown

FEWEST_CLASSES = 1024  # for fewer, the compilation takes longer than it saves


def suits_compiled_cross_entropy(logits: Tensor) -> bool:
    """Return whether `compiled_cross_entropy` is faster here than separate operations."""
    classes = logits.shape[-1]
    if classes is None or classes < FEWEST_CLASSES:
        return False
    return compiles_parts(lambda: [logits], call=lambda: (suits_compiled_cross_entropy, sizes_of(logits)))


def compiled_cross_entropy(labels: Tensor, logits: Tensor, kept: Tensor | None, smoothing: float) -> Tensor:
    """Return the cross-entropy of every token, with a hand-written gradient.

    Args:
        labels: int32 `(batch, time)`.
        logits: Float `(batch, time, classes)`.
        kept: Bool `(batch, time)`, False at tokens whose labels and logits are ignored; None if there are none.
        smoothing: The label smoothing, from 0 to 1.

    Returns:
        float32 `(batch, time)`; NaN where a label that is kept is not a class. Arbitrary finite values where `kept` is
        False, with gradient 0.
    """
    shape, classes = ops.shape(labels), logits.shape[-1]
    kept = ops.ones_like(labels, dtype="bool") if kept is None else kept
    tokens = ops.reshape(labels, (-1,)), ops.reshape(logits, (-1, classes)), ops.reshape(kept, (-1,))
    losses = backend.custom_gradient(
        *_COMPILED,
        (*(pad_unknown(each, 0) for each in tokens), ops.convert_to_tensor(smoothing, "float32")),
        keep_residuals=True,
        differentiable=(_forward, _backward),
    )
    return ops.reshape(losses[: ops.shape(tokens[0])[0]], shape)


def _primal(labels: Tensor, logits: Tensor, kept: Tensor, smoothing: Tensor) -> Tensor:
    return _forward(labels, logits, kept, smoothing)[0]


def _forward(labels: Tensor, logits: Tensor, kept: Tensor, smoothing: Tensor) -> tuple[Tensor, tuple]:
    values = ops.where(kept[:, None], ops.cast(logits, "float32"), 0.0)
    labels = ops.where(kept, labels, 0)
    right = ops.logical_and(labels >= 0, labels < logits.shape[-1])
    top = ops.max(values, axis=-1)  # subtracted first: large logits would leave few digits to their differences
    values = values - top[:, None]
    total = ops.log(ops.sum(ops.exp(values), axis=-1))
    of_labels = ops.sum(ops.where(_places(labels, logits), values, 0.0), axis=-1)
    losses = total - (1.0 - smoothing) * of_labels - smoothing * ops.mean(values, axis=-1)
    return ops.where(right, losses, np.nan), (labels, logits, kept, smoothing, right, top, total)


def _backward(residuals: tuple, d_losses: Tensor) -> tuple:
    labels, logits, kept, smoothing, right, top, total = residuals
    d_losses = ops.where(ops.logical_and(kept, right), d_losses, 0.0)[:, None]
    softmax = ops.exp(ops.cast(logits, "float32") - top[:, None] - total[:, None])
    target = ops.where(_places(labels, logits), 1.0 - smoothing, 0.0) + smoothing / logits.shape[-1]
    d_logits = ops.where(kept[:, None], (softmax - target) * d_losses, 0.0)
    return None, ops.cast(d_logits, logits.dtype), None, None


def _places(labels: Tensor, logits: Tensor) -> Tensor:
    """Return bool `(tokens, classes)`, True at each token's label."""
    return ops.arange(logits.shape[-1], dtype="int32") == labels[:, None]


_COMPILED = Differentiable(_primal, _forward, _backward).compiled()
