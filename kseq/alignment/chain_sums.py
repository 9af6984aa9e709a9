"""Sums over all sequences of tags of a linear chain: the probability of given tags, marginals, and their gradient.

The score of tags y is the sum of scores_t(y_t), transitions(y_{t-1}, y_t), start(y_0) and end(y_last). Their
probability is exp(score) divided by its sum over all sequences, which the forward and backward recursions compute:

    alpha_t(j) = exp(scores_t(j)) * sum over i of alpha_{t-1}(i) exp(transitions(i, j))
    beta_t(i)  = sum over j of exp(transitions(i, j) + scores_{t+1}(j)) beta_{t+1}(j)
    P(y_t = i) = alpha_t(i) beta_t(i) / sum over j of alpha_t(j) beta_t(j)

Each recursion exists twice. The fast one multiplies matrices of probabilities, scaled in each step. The exact one adds
logarithms. A sum over i in the fast one loses terms that underflow, below 1e-38 of the largest alpha. This is harmless
as long as no such sum is itself close to zero, which `LEAST` says; transitions whose scores differ by less than 60
guarantee it, whatever the other scores are. Otherwise the exact recursion takes the place of the fast one.

Reference: J. Lafferty, A. McCallum, F. Pereira, "Conditional random fields: probabilistic models for segmenting and
labeling sequence data", 2001.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from kseq import backend
from kseq.alignment import exact_chain, fast_chain
from kseq.alignment.chain_paths import best_sequences
from kseq.alignment.chain_potentials import Potentials, potentials
from kseq.alignment.linear_chain import Chain, inside_of, pad_unknown_sizes
from kseq.backend import Tensor
from kseq.compiled_parts import Differentiable, call_part, compiles_parts
from kseq.eager_calls import sizes_of
from kseq.padded_sizes import pad_unknown

NO_GRADIENT = "crf_marginals has no gradient; kseq.losses.crf_log_likelihood is differentiable."
NO_SECOND_GRADIENT = "The gradient of kseq.losses.crf_log_likelihood has no gradient of its own."


class Sums(NamedTuple):
    """The results of the forward recursion, as the backward recursion uses them.

    Attributes:
        potentials: The relative scores.
        alpha: float32 `(time, batch, tags)`, of the recursion that was taken.
        fast: bool scalar, whether it is the fast one.
        log_total: float32 `(batch,)`, the logarithm of the sum over all sequences of exp(relative score); -inf if no
            sequence is possible.
    """

    potentials: Potentials
    alpha: Tensor
    fast: Tensor
    log_total: Tensor


def log_probability(chain: Chain, tags: Tensor) -> Tensor:
    """Return the log-probability of tags in nats, `(batch,)`, with a hand-written gradient from the marginals.

    It is -inf, with gradient 0, in rows that are not usable and where the tags have probability zero. In rows with NaN
    or +inf scores it is NaN, with NaN as the gradient of the row's scores; such rows have no share in the gradients of
    transitions, start and end.

    Args:
        chain: The scores.
        tags: int32 `(batch, time)`, valid tags in all real steps of rows that are usable.
    """
    used = [chain.scores, chain.transitions, chain.start, chain.end]
    if not compiles_parts(lambda: used, call=lambda: (log_probability, sizes_of(pad_unknown_sizes(chain)))):
        return backend.custom_gradient(*_PLAIN, (chain, tags), keep_residuals=True)
    padded = pad_unknown_sizes(chain), pad_unknown(pad_unknown(tags, 1), 0)
    logs = backend.custom_gradient(*_COMPILED, padded, keep_residuals=True, differentiable=_PLAIN[1:])
    return logs[: ops.shape(chain.usable)[0]]


def marginals(chain: Chain) -> Tensor:
    """Return P(y_t = i), `(batch, time, tags)`: 0 in the padding and where no sequence is possible, NaN in bad rows."""
    return backend.prevent_gradient(_call(_marginals, chain), NO_GRADIENT)


def decode(chain: Chain, count: int) -> tuple[Tensor, Tensor]:
    """Return the most probable sequences, int32 `(batch, count, time)`, and their log-probabilities, `(batch, count)`.

    Where there is no sequence, tags are -1 and the log-probability is -inf. In rows that are not usable, and in rows
    with NaN or +inf scores, tags are -1 and the log-probability is NaN. There is no gradient.
    """
    return _call(_decode, Chain(*map(ops.stop_gradient, chain)), count=count)


def _marginals(chain: Chain) -> Tensor:
    sums = sum_sequences(chain)
    each = ops.transpose(_backward(sums, ops.ones_like(sums.log_total)).marginals, (1, 0, 2))
    bad = ops.logical_or(sums.potentials.broken, ops.logical_not(chain.usable))
    return ops.where(bad[:, None, None], np.nan, each)


def _call(function: Callable[..., Any], chain: Chain, **options: int) -> Any:
    """Return `function(chain, **options)`, a nest of tensors with the rows first, as a compiled part where it pays."""
    part, key = functools.partial(function, **options), (function, chain.scores.shape[2], *options.items())
    results = call_part(part, chain, pad_unknown_sizes, key=key, steps=ops.shape(chain.scores)[1])
    return tree.map_structure(lambda each: each[: ops.shape(chain.usable)[0]], results)


def _decode(chain: Chain, *, count: int) -> tuple[Tensor, Tensor]:
    sums = sum_sequences(chain, keep=False)
    each = sums.potentials
    tags, exists = best_sequences(each, count)  # (count, time, batch)
    safe = ops.where(each.inside, tags, 0)
    scores = ops.stack([_of_tags(each, safe[place]) for place in range(count)])
    exists = ops.logical_and(exists, scores > -np.inf)
    logs = ops.where(exists, scores, 0.0) - ops.where(sums.log_total > -np.inf, sums.log_total, 0.0)
    bad = ops.logical_or(each.broken, ops.logical_not(chain.usable))
    logs = ops.where(bad, np.nan, ops.where(exists, ops.minimum(logs, 0.0), -np.inf))
    exists = ops.logical_and(exists, ops.logical_not(bad))
    tags = ops.where(ops.logical_and(exists[:, None], each.inside), tags, -1)
    return ops.transpose(tags, (2, 0, 1)), ops.transpose(logs)


def sum_sequences(chain: Chain, *, keep: bool = True) -> Sums:
    """Run the forward recursion; with `keep=False` without storing alpha."""
    each = potentials(chain)
    fast = fast_chain.forward(each, keep=keep)
    alpha, log_total = ops.cond(
        fast.exact, lambda: (fast.alpha, fast.log_total), lambda: exact_chain.forward(each, keep=keep)
    )
    return Sums(each, alpha, fast.exact, log_total)


def _backward(sums: Sums, weights: Tensor) -> "fast_chain.Expected":
    """Return the expected counts of tags and transitions, with weights `(batch,)` of the rows."""
    possible = ops.logical_and(sums.log_total > -np.inf, sums.potentials.inside[0])
    weights = ops.where(possible, weights, 0.0)
    return ops.cond(
        sums.fast,
        lambda: fast_chain.backward(sums.potentials, sums.alpha, weights),
        lambda: exact_chain.backward(sums.potentials, sums.alpha, weights),
    )


def _of_tags(each: Potentials, tags: Tensor) -> Tensor:
    """Return the relative score of tags int32 `(time, batch)`, `(batch,)`."""
    count = ops.shape(each.transitions)[0]
    own = ops.take_along_axis(each.scores, tags[:, :, None], axis=2)[:, :, 0]
    steps = ops.take(ops.reshape(each.transitions, (-1,)), tags[:-1] * count + tags[1:])
    total = ops.sum(ops.where(each.inside, own, 0.0), axis=0) + ops.sum(ops.where(each.inside[1:], steps, 0.0), axis=0)
    return total + ops.sum(ops.where(each.last, ops.take(each.end, tags), 0.0), axis=0)


def _primal(chain: Chain, tags: Tensor) -> Tensor:
    return _logs(chain, tags, sum_sequences(chain, keep=False))


def _forward(chain: Chain, tags: Tensor) -> tuple[Tensor, tuple]:
    sums = sum_sequences(chain)
    logs = _logs(chain, tags, sums)
    return logs, (chain, tags, sums, logs)


def _logs(chain: Chain, tags: Tensor, sums: Sums) -> Tensor:
    score = _of_tags(sums.potentials, ops.transpose(tags))
    possible = ops.logical_and(ops.logical_and(score > -np.inf, sums.log_total > -np.inf), chain.usable)
    logs = ops.where(possible, ops.where(possible, score, 0.0) - ops.where(possible, sums.log_total, 0.0), -np.inf)
    return ops.where(sums.potentials.broken, np.nan, ops.minimum(logs, 0.0))


def _gradient(residuals: tuple, d_logs: Tensor) -> tuple:
    chain, tags, sums, logs = residuals
    weights = ops.where(ops.logical_and(logs > -np.inf, logs == logs), d_logs, 0.0)
    each, tags, size = sums.potentials, ops.transpose(tags), chain.scores.shape[2]
    expected = _backward(sums, weights)
    given = ops.logical_and(each.inside[:, :, None], ops.arange(size, dtype="int32") == tags[:, :, None])
    given = ops.cast(given, "float32")  # (time, batch, tags), the tags as marginals
    weighted = given * weights[None, :, None]
    d_scores = weighted - expected.marginals * weights[None, :, None]
    seen = ops.matmul(ops.transpose(ops.reshape(weighted[:-1], (-1, size))), ops.reshape(given[1:], (-1, size)))
    nan = ops.logical_and(inside_of(chain), each.broken[:, None])[:, :, None]
    gradients = (
        ops.where(nan, np.nan, ops.transpose(d_scores, (1, 0, 2))),
        seen - expected.transitions,
        ops.sum(d_scores[0], axis=0),
        ops.sum(ops.where(each.last[:, :, None], d_scores, 0.0), axis=(0, 1)),
    )
    d_scores, *d_shared = backend.prevent_gradient(gradients, NO_SECOND_GRADIENT)
    return Chain(d_scores, None, None, *d_shared), None


_PLAIN = Differentiable(_primal, _forward, _gradient)
_COMPILED = _PLAIN.compiled()
