"""The recursions of a linear chain by products of matrices of probabilities; see `chain_sums`."""

from typing import NamedTuple

import numpy as np
from keras import ops

from kseq import backend
from kseq.alignment.chain_potentials import Potentials
from kseq.backend import Tensor

# The smallest sum over a step's alphas, of which the largest is about 1, that is exact: terms below 1e-38 are lost, and
# there are at most (number of tags) ** 2 of them in a step.
LEAST = 1e-27


class Forward(NamedTuple):
    """The results of the forward recursion.

    Attributes:
        log_total: float32 `(batch,)`, the logarithm of the sum over all sequences of exp(relative score).
        alpha: float32 `(time, batch, tags)`, scaled to a sum of 1 in each step; () if it is not stored.
        exact: bool scalar, whether no term was lost that matters.
    """

    log_total: Tensor
    alpha: Tensor
    exact: Tensor


class Expected(NamedTuple):
    """The expected counts of tags and transitions.

    Attributes:
        marginals: float32 `(time, batch, tags)`, P(y_t = i); 0 in the padding and in rows of weight 0.
        transitions: float32 `(tags, tags)`, the expected number of each transition, summed over rows by weight.
    """

    marginals: Tensor
    transitions: Tensor


def forward(each: Potentials, *, keep: bool) -> Forward:
    """Run the forward recursion; with `keep=False` without storing alpha."""
    emitted, steps = ops.exp(each.scores), ops.exp(each.transitions)

    def step(carry: tuple[Tensor, Tensor], at: tuple[Tensor, Tensor]) -> tuple:
        alpha, least = carry
        emitted, inside = at
        reached = ops.matmul(alpha, steps)
        here, total = _scaled(reached * emitted)
        alpha = ops.where(inside, here, alpha)
        least = ops.where(inside, ops.minimum(least, reached), least)
        return (alpha, least), (alpha if keep else (), ops.where(inside, total, 1.0)[:, 0])

    first, total = _scaled(emitted[0])
    inputs = emitted[1:], each.inside[1:, :, None]
    (alpha, least), (alphas, totals) = backend.scan(step, (first, ops.ones_like(first)), inputs, fetch_ahead=False)
    final = ops.matmul(alpha, ops.exp(each.end)[:, None])[:, 0]
    some = each.inside[0]
    least = ops.where(some, ops.minimum(ops.min(least, axis=1, initial=np.inf), ops.minimum(final, total[:, 0])), 1.0)
    logs = ops.log(total[:, 0]) + ops.sum(ops.log(totals), axis=0) + ops.log(final)
    return Forward(
        ops.where(some, logs, 0.0),
        ops.concatenate([first[None], alphas], axis=0) if keep else (),
        ops.all(least >= LEAST),
    )


def backward(each: Potentials, alpha: Tensor, weights: Tensor) -> Expected:
    """Return the expected counts, with weights `(batch,)` of the rows."""
    emitted, steps, end = ops.exp(each.scores), ops.exp(each.transitions), ops.exp(each.end)

    def step(after: Tensor, at: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        emitted, last = at
        here, _ = _scaled(emitted * ops.where(last, end, ops.matmul(after, ops.transpose(steps))))
        return here, here

    start = ops.ones_like(emitted[0])
    inputs = emitted, each.last[:, :, None]
    _, here = backend.scan(step, start, inputs, reverse=True, fetch_ahead=False)  # exp(scores) * beta, scaled
    time, batch, tags = ops.shape(emitted)
    onward = ops.reshape(ops.matmul(ops.reshape(here[1:], (-1, tags)), ops.transpose(steps)), (time - 1, batch, tags))
    onward = ops.concatenate([onward, ops.ones_like(onward[:1])], axis=0)
    joint = alpha * ops.where(each.last[:, :, None], end, onward)
    total = ops.sum(joint, axis=2, keepdims=True)
    counted = ops.logical_and(each.inside, weights[None] != 0)[:, :, None]
    scale = ops.where(counted, 1.0 / ops.where(total > 0, total, 1.0), 0.0)
    weighted = (alpha * scale * weights[None, :, None])[:-1]  # of the tag before each transition
    weighted = ops.where(each.inside[1:, :, None], weighted, 0.0)
    counts = ops.matmul(ops.transpose(ops.reshape(weighted, (-1, tags))), ops.reshape(here[1:], (-1, tags)))
    return Expected(joint * scale, steps * counts)


def _scaled(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return values `(batch, tags)` divided by their sum, and the sum, `(batch, 1)`; zeros remain zeros."""
    total = ops.sum(values, axis=1, keepdims=True)
    return values / ops.where(total > 0, total, 1.0), total
