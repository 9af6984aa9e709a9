"""Weights of the losses at the steps of a row, for recurrences that are supervised at every step."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.masking import mask_from_lengths, zero_padding

StepWeights = str | Callable[[Tensor, Tensor], Tensor]

NAMED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "uniform": lambda steps, lengths: ops.ones_like(steps),
    "linear": lambda steps, lengths: steps,
}


def check_step_weights(weights: Any) -> None:
    """Raise ValueError unless `weights` is a name, or a function whose weights can be used; None means no weights."""
    if weights is None:
        return
    if not callable(weights) and (not isinstance(weights, str) or weights not in NAMED):
        raise ValueError(
            f"step_weights={weights!r}, but it must be one of {[*NAMED]}, or a function (steps, lengths) -> weights "
            "of steps `(1, time)`, from 1, and lengths `(batch, 1)`, both float32."
        )
    steps, lengths = np.array([[1, 2, 3]], "float32"), np.array([[3], [1]], "float32")
    values = ops.convert_to_numpy(_function(weights)(ops.convert_to_tensor(steps), ops.convert_to_tensor(lengths)))
    real = steps <= lengths
    fits = values.shape in ((), (1,), (3,), (1, 1), (1, 3), (2, 1), (2, 3))
    used = np.where(real, np.broadcast_to(values, (2, 3)), 0.0) if fits else values
    if not fits or not np.isfinite(used).all() or (used < 0).any() or not used.sum(axis=1).all():
        raise ValueError(
            f"step_weights({steps.tolist()}, {lengths.tolist()}) returned {values.tolist()}, but expected weights of "
            "shape (batch, time) = (2, 3), or one that broadcasts to it, which are at least 0 at the real steps of a "
            "row, and not 0 at all of them."
        )


def weights_of_steps(weights: StepWeights | None, lengths: Tensor, time: Tensor | int) -> Tensor:
    """Return the weights of the steps, float32 `(batch, time)`, 0 in the padding; their sum is 1 in each row.

    Args:
        weights: A name in `NAMED`, or a function `(steps, lengths) -> weights`; None: "uniform".
        lengths: int32 `(batch,)`.
        time: Number of steps.
    """
    steps = ops.cast(ops.arange(1, time + 1, dtype="int32"), "float32")[None]
    values = _function(weights or "uniform")(steps, ops.cast(lengths, "float32")[:, None])
    mask = mask_from_lengths(lengths, time)
    values = zero_padding(ops.broadcast_to(ops.cast(values, "float32"), ops.shape(mask)), mask)
    total = ops.sum(values, axis=1, keepdims=True)
    return values / ops.where(total > 0, total, 1.0)


def _function(weights: Any) -> Callable[[Tensor, Tensor], Tensor]:
    return NAMED[weights] if isinstance(weights, str) else weights
