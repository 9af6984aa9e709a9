"""The recursions of a linear chain by sums of logarithms, which no scores make inexact; see `chain_sums`."""

import numpy as np
from keras import ops

from kseq import backend
from kseq.alignment.chain_potentials import Potentials
from kseq.alignment.fast_chain import Expected
from kseq.backend import Tensor


def forward(each: Potentials, *, keep: bool) -> tuple[Tensor, Tensor]:
    """Run the forward recursion; with `keep=False` without storing alpha.

    Returns:
        `(alpha, log_total)`: the logarithms of alpha, `(time, batch, tags)`, at most 0, or (), and the logarithm of the
        sum over all sequences of exp(relative score), `(batch,)`; -inf where there is none.
    """

    def step(alpha: Tensor, at: tuple[Tensor, Tensor]) -> tuple:
        scores, inside = at
        here, top = _shifted(_log_sum(alpha[:, :, None] + each.transitions, 1) + scores)
        alpha = ops.where(inside, here, alpha)
        return alpha, (alpha if keep else (), ops.where(inside, top, 0.0)[:, 0])

    first, top = _shifted(each.scores[0])
    inputs = each.scores[1:], each.inside[1:, :, None]
    alpha, (alphas, tops) = backend.scan(step, first, inputs, fetch_ahead=False)
    total = top[:, 0] + ops.sum(tops, axis=0) + _log_sum(alpha + each.end, 1)
    total = ops.where(each.inside[0], total, 0.0)
    return ops.concatenate([first[None], alphas], axis=0) if keep else (), total


def backward(each: Potentials, alpha: Tensor, weights: Tensor) -> Expected:
    """Return the expected counts, with weights `(batch,)` of the rows."""
    weighted = ops.where(each.inside, weights[None], 0.0)[:, :, None]  # (time, batch, 1)

    def step(carry: tuple[Tensor, Tensor], at: tuple) -> tuple:
        after, counts = carry  # scores + log beta of the step after, shifted
        scores, last, alpha, weight = at
        each_pair = each.transitions + after[:, None, :]  # (batch, from, to)
        beta = ops.where(last, each.end, _log_sum(each_pair, 2))
        total = _log_sum(alpha + beta, 1)[:, None]
        total = ops.where(total > -np.inf, total, 0.0)
        marginals = ops.where(weight != 0, ops.exp(alpha + beta - total), 0.0)
        pairs = ops.exp(alpha[:, :, None] + each_pair - total[:, :, None])
        moves = ops.where(last, 0.0, weight)[:, :, None]
        counts = counts + ops.sum(ops.where(moves != 0, pairs, 0.0) * moves, axis=0)
        return (_shifted(scores + beta)[0], counts), marginals

    start = ops.zeros_like(each.scores[0]), ops.zeros_like(each.transitions)
    inputs = each.scores, each.last[:, :, None], alpha, weighted
    (_, counts), marginals = backend.scan(step, start, inputs, reverse=True, fetch_ahead=False)
    return Expected(marginals, counts)


def _shifted(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return values `(batch, tags)` less their maximum, and the maximum, `(batch, 1)`; -inf remains -inf."""
    top = ops.max(values, axis=1, keepdims=True, initial=-np.inf)
    return values - ops.where(top > -np.inf, top, 0.0), top


def _log_sum(values: Tensor, axis: int) -> Tensor:
    """Return the logarithm of the sum of exp(values) over an axis; -inf of nothing but -inf."""
    top = ops.max(values, axis=axis, keepdims=True, initial=-np.inf)
    top = ops.where(top > -np.inf, top, 0.0)
    return ops.log(ops.sum(ops.exp(values - top), axis=axis)) + ops.squeeze(top, axis)
