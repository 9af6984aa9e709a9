"""The forward-backward algorithm: the probability of labels over all alignments, and the posteriors of states.

With p_t(s) the emission probability of state s in frame t, alpha_t(s) is the total probability of all partial
alignments of frames 0 to t that end in s, and beta_t(s) that of all partial alignments of frames t to the last that
begin in s:

    alpha_t(s) = p_t(s) * sum of alpha_{t-1}(r) over the arcs r -> s
    beta_t(s)  = p_t(s) * sum of beta_{t+1}(r) over the arcs s -> r
    P(labels | input) = sum of beta_0(s) over the states s where an alignment may start
    P(s_t = s | labels, input) = alpha_t(s) beta_t(s) / (p_t(s) P(labels | input))

Both recursions use floats with a separate integer exponent (`wide`): nothing underflows and every value has a float's
full precision, however long or unlikely the alignments. The recursion of beta is that of alpha on the mirrored lattice;
it stores no beta, but multiplies it by alpha in each step.

Reference: L. Rabiner, "A tutorial on hidden Markov models and selected applications in speech recognition", 1989.
"""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np
from keras import ops, tree

from kseq import backend
from kseq.alignment import emissions, wide
from kseq.alignment.batch import Batch, make_batch, pad_unknown_sizes
from kseq.alignment.compiled_alignments import compiles_alignments, run_part
from kseq.alignment.ctc_topology import CTCTopology
from kseq.alignment.emissions import Softmax
from kseq.alignment.topology import Arc, Lattice, Topology, along, mirrored, only, widened
from kseq.alignment.wide import Wide
from kseq.backend import Tensor
from kseq.compiled_parts import Differentiable
from kseq.masking import zero_padding

# Mantissas and exponents are separated by bit operations, for which automatic differentiation gives wrong gradients.
NO_GRADIENT = "forward_backward has no gradient; kseq.ctc_loss is differentiable."
NO_SECOND_GRADIENT = "The gradient of a loss over alignments, such as kseq.ctc_loss, has no gradient of its own."


class ForwardBackward(NamedTuple):
    """The result of `forward_backward`.

    Attributes:
        log_probabilities: Float `(batch,)`, log P(labels | input) in nats, summed over all alignments.
        posteriors: Float `(batch, time, states)`, P(s_t = s | labels, input); zero in the padding.
    """

    log_probabilities: Tensor
    posteriors: Tensor


@backend.without_autograph
def forward_backward(
    labels: Tensor,
    logits: Tensor,
    label_lengths: Tensor,
    logit_lengths: Tensor,
    *,
    topology: Topology | None = None,
) -> ForwardBackward:
    """Sum the probabilities of all alignments of labels with frames, and compute the posteriors of states.

    Args:
        labels: int `(batch, max_labels)`; values beyond `label_lengths` are ignored.
        logits: Float `(batch, time, classes)`, unnormalised; values beyond `logit_lengths` are ignored.
        label_lengths: int `(batch,)`.
        logit_lengths: int `(batch,)`.
        topology: The set of allowed alignments; `CTCTopology(blank_index=0)` by default.

    Returns:
        A `ForwardBackward`, float64 for float64 logits, else float32. A row without any alignment (too few frames; in a
        compiled graph also invalid labels or lengths) has log-probability -inf and posteriors 0. A row with NaN or +inf
        among its logits has NaN in both.

    Raises:
        ValueError: As in `kseq.ctc_loss`.
        NotImplementedError: If a gradient is requested. In a TensorFlow graph it is an `InvalidArgumentError`, and
            compiled by XLA the gradient is NaN; TensorFlow returns None as the gradient of the log-probabilities.

    Example:
        >>> forward_backward([[1]], np.zeros((1, 2, 2)), [1], [2]).log_probabilities  # 3 of 4 paths spell label 1
        [-0.28768]
    """
    topology = CTCTopology() if topology is None else topology
    batch = make_batch(labels, logits, label_lengths, logit_lengths, topology)
    answer = run_part(_posteriors, topology, batch._replace(logits=ops.stop_gradient(batch.logits)))
    states = ops.shape(make_lattice(topology, batch).emitted)[0] - 2 * topology.hidden
    answer = answer._replace(posteriors=answer.posteriors[:, : ops.shape(logits)[1], :states])
    return backend.prevent_gradient(answer, NO_GRADIENT)


def _posteriors(topology: Topology, batch: Batch) -> ForwardBackward:
    sums = sum_alignments(topology, batch)
    joint = joint_posteriors(sums)
    posteriors = ops.transpose(joint / emissions.positive_sum(joint)[:, :, None], (1, 0, 2))[:, :, topology.hidden :]
    posteriors = posteriors[:, :, : ops.shape(posteriors)[2] - topology.hidden]
    scale = _scale(sums, batch, ops.ones_like(sums.log_probabilities))[:, :, None]
    return ForwardBackward(
        sums.log_probabilities, ops.where(scale == 0, ops.zeros_like(posteriors), posteriors * scale)
    )


def ctc_posteriors(
    labels: Tensor, logits: Tensor, label_lengths: Tensor, logit_lengths: Tensor, *, blank_index: int = 0
) -> Tensor:
    """Return the posterior probability of each state of the CTC lattice in each frame, given labels and logits.

    Args:
        labels: int `(batch, max_labels)`; values beyond `label_lengths` are ignored.
        logits: Float `(batch, time, classes)`, unnormalised; values beyond `logit_lengths` are ignored.
        label_lengths: int `(batch,)`.
        logit_lengths: int `(batch,)`.
        blank_index: The class that is the blank; -1 is the last.

    Returns:
        Float `(batch, time, 2 * max_labels + 1)`: index 2j + 1 is label j, index 2j the blank before it. The
        posteriors of a frame sum to 1; in the padding they are 0. Invalid rows and errors as in `forward_backward`.
    """
    topology = CTCTopology(blank_index)
    return forward_backward(labels, logits, label_lengths, logit_lengths, topology=topology).posteriors


class Sums(NamedTuple):
    """The results of the forward recursion, as the backward recursion uses them.

    Attributes:
        log_probabilities: `(batch,)`; -inf in rows without an alignment, NaN in rows with NaN or +inf logits.
        probability: `Wide` `(batch,)`, P(labels | input).
        possible: Bool `(batch,)`, True in rows with an alignment of one frame or more.
        broken: Bool `(batch,)`, True in rows with NaN or +inf logits.
        alpha: `Wide` `(time, batch, states)`; () with `keep=False`.
        states: `Wide` `(time, batch, states)`, the emission probabilities.
        lattice: The lattice.
        parts: The softmax of the logits.
    """

    log_probabilities: Tensor
    probability: Wide
    possible: Tensor
    broken: Tensor
    alpha: Any
    states: Wide
    lattice: Lattice
    parts: Softmax


def make_lattice(topology: Topology, batch: Batch) -> Lattice:
    """Return the lattice of a batch, with negative classes (a blank of -1) replaced by their indices from 0."""
    lattice = topology.lattice(batch.labels, batch.label_lengths)
    classes = batch.logits.shape[2]
    return lattice._replace(symbols=ops.where(lattice.symbols < 0, lattice.symbols + classes, lattice.symbols))


def sum_alignments(topology: Topology, batch: Batch, *, keep: bool = True) -> Sums:
    """Run the forward recursion; with `keep=False` without storing alpha."""
    lattice = make_lattice(topology, batch)
    parts = emissions.softmax(zero_padding(batch.logits, batch.inside))
    states = emissions.emitted(batch.logits, parts, lattice, batch.inside)
    alpha, probability = _forward(lattice, states, keep=keep)
    some = ops.any(batch.inside, axis=1)
    possible = ops.logical_and(ops.logical_and(batch.usable, some), ops.logical_not(wide.is_zero(probability)))
    broken = ops.any(ops.logical_and(batch.inside, parts.total != parts.total), axis=1)
    nothing = ops.logical_and(ops.logical_and(batch.usable, ops.logical_not(some)), batch.label_lengths == 0)
    logs = ops.where(possible, wide.to_log(probability), ops.full_like(probability.mantissa, -np.inf))
    logs = ops.where(nothing, ops.zeros_like(logs), logs)
    logs = ops.where(broken, ops.full_like(logs, np.nan), logs)
    possible = ops.logical_and(possible, ops.logical_not(broken))
    return Sums(logs, probability, possible, broken, alpha, states, lattice, parts)


def joint_posteriors(sums: Sums) -> Tensor:
    """Return P(s_t = s | labels, input), up to a factor per frame, `(time, batch, states)`.

    Rounding errors of the recursions accumulate over time into a factor that all states of a frame share, so callers
    normalise each frame. Rows that are not `possible` have arbitrary finite values.
    """
    lattice, like = mirrored(sums.lattice), sums.states.mantissa

    def step(after: Wide, at: tuple[Wide, Wide]) -> tuple[Wide, Tensor]:
        emitted, alpha = tree.map_structure(lambda x: ops.flip(x, 1), at)
        onward = arrive(after)
        exponent = alpha.exponent + onward.exponent - sums.probability.exponent[:, None]
        joint = alpha.mantissa * onward.mantissa * wide.power_of_two(ops.clip(exponent, -127, 64), like.dtype)
        return _leave(lattice.arcs, wide.multiply(onward, emitted)), ops.flip(joint, 1)

    arrive = _arrival(lattice.arcs, like)
    start = _leave(lattice.arcs, wide.from_mask(only(lattice.first, ops.shape(like)[2]), like=like))
    return backend.scan(step, start, (sums.states, sums.alpha), reverse=True, fetch_ahead=False)[1]


def log_probability(topology: Topology, batch: Batch, *, expected: bool = False) -> Tensor:
    """Return log P(labels | input) in nats, `(batch,)`, with a hand-written gradient from the posteriors.

    With w_t(c) the posterior probability that frame t emits class c, given the labels, the gradient with respect to the
    logits is w - softmax. It is zero in the padding and in rows without an alignment, and NaN in rows with NaN or +inf.

    Args:
        topology: The set of allowed alignments.
        batch: The batch.
        expected: Return instead the expected log-probability of an alignment under the posterior distribution of
            alignments. With that distribution held constant, the gradient is the same.
    """

    def primal(logits: Tensor, batch: Batch) -> Tensor:
        if expected:
            return forward(logits, batch)[0]
        return sum_alignments(topology, batch._replace(logits=logits), keep=False).log_probabilities

    def forward(logits: Tensor, batch: Batch) -> tuple[Tensor, tuple]:
        sums = sum_alignments(topology, batch._replace(logits=logits))
        if not expected:
            return sums.log_probabilities, (sums, (), batch)
        joint = joint_posteriors(sums)
        return _expected(sums, joint, batch), (sums, joint, batch)

    def backward(residuals: tuple[Sums, Tensor | tuple, Batch], d_logs: Tensor) -> tuple:
        sums, joint, batch = residuals
        weights = topology.collect(joint if expected else joint_posteriors(sums))
        d_logits = emissions.logits_gradient(sums.parts, weights, sums.lattice.symbols, _scale(sums, batch, -d_logs))
        d_logits = backend.prevent_gradient(d_logits, NO_SECOND_GRADIENT)
        return d_logits, tree.map_structure(lambda _: None, batch)

    functions = Differentiable(primal, forward, backward)
    key = (log_probability, topology, expected) if isinstance(topology, Hashable) else None
    if not compiles_alignments(key, topology, batch):
        return backend.custom_gradient(*functions, (batch.logits, batch._replace(logits=())), keep_residuals=True)
    padded = pad_unknown_sizes(batch)
    logs = backend.custom_gradient(
        *functions.compiled(key),
        (padded.logits, padded._replace(logits=())),
        keep_residuals=True,
        differentiable=functions[1:],
    )
    return logs[: ops.shape(batch.usable)[0]]


def _expected(sums: Sums, joint: Tensor, batch: Batch) -> Tensor:
    """Return the expected log-probability of an alignment under the posterior distribution, `(batch,)`."""
    shares = joint / emissions.positive_sum(joint)[:, :, None]
    logs = ops.where(shares > 0, wide.to_log(sums.states), ops.zeros_like(shares))
    each = zero_padding(ops.transpose(emissions.sum_last(shares * logs)), batch.inside)  # (batch, time)
    return ops.where(sums.possible, ops.sum(each, axis=1), sums.log_probabilities)


def _scale(sums: Sums, batch: Batch, rows: Tensor) -> Tensor:
    """Broadcast a value per row, `(batch,)`, to frames, `(batch, time)`: 0 in the padding and in impossible rows."""
    rows = ops.where(sums.possible, rows, ops.zeros_like(rows))
    rows = ops.where(sums.broken, ops.full_like(rows, np.nan), rows)
    return ops.where(batch.inside, rows[:, None], ops.zeros_like(rows)[:, None])


def _forward(lattice: Lattice, states: Wide, *, keep: bool) -> tuple[Wide | tuple, Wide]:
    """Return alpha `(time, batch, states)`, or () without `keep`, and P(labels | input) `(batch,)`."""
    arcs, like = lattice.arcs, states.mantissa
    arrive = _arrival(arcs, like)

    def step(before: Wide, emitted: Wide) -> tuple[Wide, Wide | tuple]:
        here = wide.multiply(arrive(before), emitted)
        return _leave(arcs, here), (here if keep else ())

    first, last = (
        wide.from_mask(only(place, ops.shape(like)[2]), like=like) for place in (lattice.first, lattice.last)
    )
    end, alpha = backend.scan(step, _leave(arcs, first), states, fetch_ahead=False)
    return alpha, wide.total(wide.multiply(arrive(end), last))


def _leave(arcs: tuple[Arc, ...], numbers: Wide) -> Wide:
    """Return normalised values of states, padded in front for `along`: `(batch, farthest arc + states)`."""
    return Wide(*(widened(arcs, x, fill) for x, fill in zip(wide.normal(numbers), (1, wide.ZERO), strict=True)))


def _arrival(arcs: tuple[Arc, ...], like: Tensor) -> Callable[[Wide], Wide]:
    """Return the function that sums, for each state, the values at the origins of its arcs; its input is `_leave`'s."""
    penalties = [0 if arc.allowed is None else wide.penalty(arc.allowed, like) for arc in arcs]

    def arrive(before: Wide) -> Wide:
        mantissas, exponents = (along(arcs, x) for x in before)
        return wide.add(*(Wide(m, e + p) for m, e, p in zip(mantissas, exponents, penalties, strict=True)))

    return arrive
