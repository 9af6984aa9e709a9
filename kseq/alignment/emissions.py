"""From logits to what each state of a lattice emits, and back from states' weights to the gradient of logits."""

from typing import NamedTuple

from keras import ops

from kseq.alignment import wide
from kseq.alignment.topology import Lattice, only
from kseq.alignment.wide import Wide
from kseq.backend import Tensor


class Softmax(NamedTuple):
    """The softmax of logits, in parts.

    Attributes:
        top: `(batch, time)`, the largest logit of each frame.
        exponentials: `(batch, time, classes)`, exp(logits - top).
        total: `(batch, time)`, their sums.
    """

    top: Tensor
    exponentials: Tensor
    total: Tensor


def softmax(logits: Tensor) -> Softmax:
    """Return the softmax of logits `(batch, time, classes)`."""
    top = ops.max(logits, axis=2)
    exponentials = ops.exp(logits - top[:, :, None])
    return Softmax(top, exponentials, sum_last(exponentials))


def sum_last(values: Tensor) -> Tensor:
    """Return the sum over the last axis; XLA adds up row by row one by one, but multiplies matrices in full width."""
    return ops.matmul(values, ops.ones((ops.shape(values)[-1], 1), dtype=values.dtype))[..., 0]


def positive_sum(values: Tensor) -> Tensor:
    """Return the sum over the last axis of values of zero or more, to divide by it: 1 where it is zero."""
    total = sum_last(values)
    return ops.where(total > 0, total, ops.ones_like(total))


def emitted(logits: Tensor, parts: Softmax, lattice: Lattice, inside: Tensor) -> Wide:
    """Return the probability of what each state emits in each frame, `(time, batch, states)`.

    In the padding only the state after the last frame is possible: there the recursions wait.

    Args:
        logits: `(batch, time, classes)`, in the padding anything.
        parts: Their softmax, with the padding zero.
        lattice: The lattice.
        inside: Bool `(batch, time)`, True at real frames.
    """
    number = wide.from_log(pick(logits, state_classes(lattice)))
    # A power of two is taken out of each frame as an integer, which rounds nothing; what is left is about one.
    scale = wide.from_log(ops.transpose(parts.top))  # (time, batch)
    mantissa = number.mantissa / (scale.mantissa * ops.transpose(parts.total))[:, :, None]
    inside = ops.transpose(inside)[:, :, None]
    real, waiting = (ops.cast(x, number.exponent.dtype) for x in silences(lattice, wide.ZERO))
    exponent = ops.where(inside, number.exponent - scale.exponent[:, :, None] + real, waiting)
    return Wide(ops.where(inside, mantissa, ops.ones_like(mantissa)), ops.maximum(exponent, wide.ZERO))


def log_emitted(logits: Tensor, parts: Softmax, lattice: Lattice, inside: Tensor, lowest: int) -> Tensor:
    """Return the logarithms of `emitted`, at least `lowest`."""
    scores = pick(logits, state_classes(lattice)) - ops.transpose(parts.top + ops.log(parts.total))[:, :, None]
    real, waiting = (ops.cast(x, scores.dtype) for x in silences(lattice, lowest))
    scores = ops.where(ops.transpose(inside)[:, :, None], scores + real, waiting)
    return ops.maximum(scores, ops.cast(lowest, scores.dtype))


def state_classes(lattice: Lattice) -> Tensor:
    """Return the class that each state emits, int32 `(batch, states)`."""
    return ops.take(lattice.symbols, lattice.emitted, axis=1)


def silences(lattice: Lattice, lowest: int) -> tuple[Tensor, Tensor]:
    """Return what each state's score is raised by in real frames, and is in the padding: int32 `(batch, states)`."""
    waiting = ops.where(only(lattice.last, ops.shape(lattice.emitted)[0]), 0, lowest)
    real = ops.zeros_like(waiting) if lattice.silent is None else ops.where(lattice.silent, lowest, 0)
    return real, waiting


def pick(values: Tensor, symbols: Tensor) -> Tensor:
    """Return `values[row, t, symbols[row, k]]` as `(time, batch, symbols)`, of values `(batch, time, classes)`."""
    return ops.transpose(ops.take_along_axis(values, symbols[:, None, :], axis=2), (1, 0, 2))


def place(weights: Tensor, symbols: Tensor, classes: int) -> Tensor:
    """Return `weights` `(time, batch, symbols)` added up by class, `(batch, time, classes)`; undoes `pick`."""
    one_hot = ops.one_hot(symbols, classes, dtype=weights.dtype)  # (batch, symbols, classes)
    return ops.matmul(ops.transpose(weights, (1, 0, 2)), one_hot)


def logits_gradient(parts: Softmax, weights: Tensor, symbols: Tensor, scale: Tensor) -> Tensor:
    """Return `scale * (softmax - weights by class)`, `(batch, time, classes)`, each frame's weights adding up to one.

    It is the gradient of the cross-entropy between `weights` and the softmax.

    Args:
        parts: The softmax.
        weights: `(time, batch, symbols)`, of any sum above zero; if it is zero, none count.
        symbols: int32 `(batch, symbols)`, classes.
        scale: `(batch, time)`, zero in the padding.
    """
    classes = parts.exponentials.shape[2]
    share = place(weights * (ops.transpose(scale) / positive_sum(weights))[:, :, None], symbols, classes)
    return parts.exponentials * (scale / parts.total)[:, :, None] - share
