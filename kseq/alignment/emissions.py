"""Emission probabilities of a lattice's states, and the gradient of logits from the weights of states."""

from typing import NamedTuple

import numpy as np
from keras import ops

from kseq.alignment import wide
from kseq.alignment.topology import Lattice, only
from kseq.alignment.wide import Wide
from kseq.backend import Tensor


class Softmax(NamedTuple):
    """The parts of a softmax over classes.

    Attributes:
        top: `(batch, time)`, the largest logit of each frame.
        exponentials: `(batch, time, classes)`, exp(logits - top).
        total: `(batch, time)`, the sum of `exponentials` over classes.
    """

    top: Tensor
    exponentials: Tensor
    total: Tensor


def softmax(logits: Tensor) -> Softmax:
    """Return the softmax of logits `(batch, time, classes)`."""
    top = ops.max(logits, axis=2, initial=-np.inf)  # without `initial`, Keras refuses a batch of no rows
    exponentials = ops.exp(logits - top[:, :, None])
    return Softmax(top, exponentials, sum_last(exponentials))


def sum_last(values: Tensor) -> Tensor:
    """Return the sum over the last axis, as a matrix product: XLA vectorises it on a CPU, unlike a row-wise sum."""
    return ops.matmul(values, ops.ones((ops.shape(values)[-1], 1), dtype=values.dtype))[..., 0]


def positive_sum(values: Tensor) -> Tensor:
    """Return the sum of non-negative values over the last axis as a divisor: 1 where the sum is zero."""
    total = sum_last(values)
    return ops.where(total > 0, total, ops.ones_like(total))


def emitted(logits: Tensor, parts: Softmax, lattice: Lattice, inside: Tensor) -> Wide:
    """Return the emission probability of each state in each frame, `(time, batch, states)`.

    In the padding it is 1 for the state after the last frame and 0 for all others, so that recursions hold their value.

    Args:
        logits: `(batch, time, classes)`, with any values in the padding.
        parts: The softmax of these logits with zeros in the padding.
        lattice: The lattice.
        inside: Bool `(batch, time)`, True at real frames.
    """
    number = wide.from_log(pick(logits, state_classes(lattice)))
    # Factor a power of two out of each frame, which is exact; the remaining factor is close to 1.
    scale = wide.from_log(ops.transpose(parts.top))  # (time, batch)
    mantissa = number.mantissa / (scale.mantissa * ops.transpose(parts.total))[:, :, None]
    inside = ops.transpose(inside)[:, :, None]
    real, waiting = (ops.cast(x, number.exponent.dtype) for x in silences(lattice, wide.ZERO))
    exponent = ops.where(inside, number.exponent - scale.exponent[:, :, None] + real, waiting)
    return Wide(ops.where(inside, mantissa, ops.ones_like(mantissa)), ops.maximum(exponent, wide.ZERO))


def log_emitted(logits: Tensor, parts: Softmax, lattice: Lattice, inside: Tensor, lowest: int) -> Tensor:
    """Return the logarithms of the probabilities of `emitted`, clipped below at `lowest`."""
    scores = pick(logits, state_classes(lattice)) - ops.transpose(parts.top + ops.log(parts.total))[:, :, None]
    real, waiting = (ops.cast(x, scores.dtype) for x in silences(lattice, lowest))
    scores = ops.where(ops.transpose(inside)[:, :, None], scores + real, waiting)
    return ops.maximum(scores, ops.cast(lowest, scores.dtype))


def state_classes(lattice: Lattice) -> Tensor:
    """Return the class that each state emits, int32 `(batch, states)`."""
    return ops.take(lattice.symbols, lattice.emitted, axis=1)


def silences(lattice: Lattice, lowest: int) -> tuple[Tensor, Tensor]:
    """Return the log-domain masks of states, int32 `(batch, states)`: 0 where a state is possible, else `lowest`.

    Returns:
        `(real, waiting)`: `real` is added to scores in real frames, `waiting` replaces them in the padding.
    """
    waiting = ops.where(only(lattice.last, ops.shape(lattice.emitted)[0]), 0, lowest)
    real = ops.zeros_like(waiting) if lattice.silent is None else ops.where(lattice.silent, lowest, 0)
    return real, waiting


def pick(values: Tensor, symbols: Tensor) -> Tensor:
    """Return `values[row, t, symbols[row, k]]` as `(time, batch, symbols)`, for values `(batch, time, classes)`."""
    return ops.transpose(ops.take_along_axis(values, symbols[:, None, :], axis=2), (1, 0, 2))


def place(weights: Tensor, symbols: Tensor, classes: int) -> Tensor:
    """Return `weights` `(time, batch, symbols)` summed by class, `(batch, time, classes)`: the transpose of `pick`."""
    one_hot = ops.one_hot(symbols, classes, dtype=weights.dtype)  # (batch, symbols, classes)
    return ops.matmul(ops.transpose(weights, (1, 0, 2)), one_hot)


def logits_gradient(parts: Softmax, weights: Tensor, symbols: Tensor, scale: Tensor) -> Tensor:
    """Return `scale * (softmax - target)`, `(batch, time, classes)`: the gradient of a cross-entropy with `target`.

    The target distribution is `weights` summed by class and normalised to 1 in each frame.

    Args:
        parts: The softmax.
        weights: Non-negative `(time, batch, symbols)`, unnormalised; the target is zero where all weights are.
        symbols: int32 `(batch, symbols)`, classes.
        scale: `(batch, time)`, zero in the padding.
    """
    classes = parts.exponentials.shape[2]
    share = place(weights * (ops.transpose(scale) / positive_sum(weights))[:, :, None], symbols, classes)
    return parts.exponentials * (scale / parts.total)[:, :, None] - share
