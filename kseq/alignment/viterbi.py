"""The Viterbi algorithm: the most probable alignment of frames to labels.

With p_t(s) the emission probability of state s in frame t, the best partial alignment of frames t to the last that
begins in s has probability

    best_t(s) = p_t(s) * max of best_{t+1}(r) over the arcs s -> r

The path follows the maximising arcs from the best first state. Log-probabilities are stored as an integer and a
fraction in [0, 1), so that large magnitudes do not round away the difference between paths.

Reference: A. Viterbi, "Error bounds for convolutional codes and an asymptotically optimum decoding algorithm", 1967.
"""

from typing import NamedTuple

import numpy as np
from keras import ops

from kseq import backend
from kseq.alignment import emissions, wide
from kseq.alignment.batch import Batch, make_batch
from kseq.alignment.compiled_alignments import run_part
from kseq.alignment.ctc_topology import CTCTopology
from kseq.alignment.forward_backward import make_lattice
from kseq.alignment.topology import Lattice, Topology, along, mirrored, only, starts, widened
from kseq.backend import Tensor
from kseq.masking import zero_padding

LOWEST = wide.ZERO


class BestPath(NamedTuple):
    """The result of `viterbi_align`.

    Attributes:
        states: int32 `(batch, time)`, the lattice's state in each frame; -1 in the padding and in rows without any
            alignment. With CTC, 2j + 1 is label j and 2j the blank before it; with `OrderSynchronous`, j is label j.
        classes: int32 `(batch, time)`, the class emitted in each frame; -1 as in `states`.
        scores: Float `(batch,)`, the log-probability of the path in nats; -inf in rows without any alignment.
        log_probabilities: Float `(batch, time)`, the log-probability of each frame's class; 0 where `states` is -1.
    """

    states: Tensor
    classes: Tensor
    scores: Tensor
    log_probabilities: Tensor


@backend.without_autograph
def viterbi_align(
    labels: Tensor,
    logits: Tensor,
    label_lengths: Tensor,
    logit_lengths: Tensor,
    *,
    topology: Topology | None = None,
) -> BestPath:
    """Return the most probable alignment of each row.

    Ties are broken in favour of the lowest first state, and then of the path that leaves each state as late as
    possible. There is no gradient.

    Args:
        labels: int `(batch, max_labels)`; values beyond `label_lengths` are ignored.
        logits: Float `(batch, time, classes)`, unnormalised; values beyond `logit_lengths` are ignored.
        label_lengths: int `(batch,)`.
        logit_lengths: int `(batch,)`.
        topology: The set of allowed alignments; `CTCTopology(blank_index=0)` by default.

    Returns:
        A `BestPath`. A row without frames and without labels has score 0. A row with NaN or +inf among its logits has
        score NaN and states -1.

    Raises:
        ValueError: As in `kseq.ctc_loss`.

    Example:
        >>> logits = np.log([[[0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]])
        >>> viterbi_align(np.array([[1, 2]]), logits, np.array([2]), np.array([3])).classes
        [[1, 0, 2]]
    """
    topology = CTCTopology() if topology is None else topology
    return best_path(topology, make_batch(labels, logits, label_lengths, logit_lengths, topology), ops.shape(logits)[1])


def best_path(topology: Topology, batch: Batch, time: int | Tensor, *, uniform: bool = False) -> BestPath:
    """Return the most probable alignments of `batch`, cut to `time` frames.

    With `uniform`, the logits are ignored and the states of a row share its frames as evenly as the topology allows.
    """
    batch = batch._replace(logits=ops.stop_gradient(batch.logits))
    path = run_part(_best_path, topology, batch, uniform=uniform)
    return BestPath(path.states[:, :time], path.classes[:, :time], path.scores, path.log_probabilities[:, :time])


def _best_path(topology: Topology, batch: Batch, uniform: bool) -> BestPath:
    lattice = make_lattice(topology, batch)
    logits = zero_padding(batch.logits, batch.inside)
    parts = emissions.softmax(logits)
    if uniform:
        scores = _evenness(topology, lattice, batch.inside, logits.dtype)
    else:
        scores = emissions.log_emitted(batch.logits, parts, lattice, batch.inside, LOWEST)
    value, moves = _search(lattice, scores)
    start = ops.where(starts(lattice), value.whole, LOWEST)
    first = _best_place(_Score(start, value.rest))
    states = _trace(first, moves, lattice)  # (time, batch)
    classes = ops.take_along_axis(emissions.state_classes(lattice), ops.transpose(states), axis=1)  # (batch, time)
    some = ops.any(batch.inside, axis=1)
    found = ops.logical_and(ops.max(start, axis=1, initial=LOWEST) > LOWEST // 2, some)
    broken = ops.any(ops.logical_and(batch.inside, parts.total != parts.total), axis=1)
    nothing = ops.logical_and(ops.logical_not(some), batch.label_lengths == 0)
    found = ops.logical_and(ops.logical_and(found, batch.usable), ops.logical_not(broken))
    shown = ops.logical_and(batch.inside, found[:, None])
    each = ops.take_along_axis(logits, ops.where(shown, classes, 0)[:, :, None], axis=2)[:, :, 0]
    each = ops.where(shown, each - parts.top - ops.log(parts.total), ops.zeros_like(each))
    total = ops.where(found, ops.sum(each, axis=1), -np.inf)
    total = ops.where(ops.logical_and(nothing, batch.usable), ops.zeros_like(total), total)
    total = ops.where(broken, ops.full_like(total, np.nan), total)
    return BestPath(
        ops.where(shown, ops.transpose(states) - topology.hidden, -1), ops.where(shown, classes, -1), total, each
    )


def _evenness(topology: Topology, lattice: Lattice, inside: Tensor, dtype: str) -> Tensor:
    """Return scores `(time, batch, states)`: minus the squared distance of relative positions.

    A path of maximal score shares the frames between the states as evenly as possible.
    """
    count = ops.shape(lattice.emitted)[0]
    frames, states = (ops.cast(ops.arange(n), dtype) + 0.5 for n in (ops.shape(inside)[1], count))
    real, waiting = (ops.cast(x, dtype) for x in emissions.silences(lattice, LOWEST))
    frame_count = ops.maximum(ops.sum(ops.cast(inside, dtype), axis=1), 1.0)
    state_count = ops.cast(lattice.last + 1 - 2 * topology.hidden, dtype)
    here = frames[:, None, None] / frame_count[None, :, None]
    there = (states - topology.hidden)[None, None, :] / ops.maximum(state_count, 1.0)[None, :, None]
    return ops.where(ops.transpose(inside)[:, :, None], real - ops.square(here - there), waiting)


class _Score(NamedTuple):
    """Log-probabilities `whole + rest`: an integer and a fraction in [0, 1)."""

    whole: Tensor
    rest: Tensor


def _search(lattice: Lattice, scores: Tensor) -> tuple[_Score, Tensor]:
    """Return the score of the best path from each state of the first frame, and the arcs of the best paths.

    The arcs are int8 `(time, batch, states)`: the index of the arc to take from a frame to the next.
    """
    lattice, kind, states = mirrored(lattice), scores.dtype, ops.shape(scores)[2]
    arcs, floor = lattice.arcs, ops.floor(scores)
    penalties = [0 if arc.allowed is None else ops.where(arc.allowed, 0, LOWEST) for arc in arcs]

    def seen(score: _Score) -> _Score:
        return _Score(widened(arcs, score.whole, LOWEST), widened(arcs, score.rest, 0))

    def step(after: _Score, at: tuple) -> tuple[_Score, Tensor]:
        whole, rest = (ops.flip(x, 1) for x in at)
        wholes = [w + p for w, p in zip(along(arcs, after.whole), penalties, strict=True)]
        rests = along(arcs, after.rest)
        best, move = _Score(wholes[0], rests[0]), ops.zeros_like(wholes[0])
        for index in range(1, len(arcs)):
            better = ops.cast(wholes[index] - best.whole, kind) + (rests[index] - best.rest) > 0
            best = _Score(ops.where(better, wholes[index], best.whole), ops.where(better, rests[index], best.rest))
            move = ops.where(better, index, move)
        rest = best.rest + rest
        carry = ops.cast(rest >= 1, "int32")
        whole = ops.maximum(best.whole + whole + carry, LOWEST)
        return seen(_Score(whole, rest - ops.cast(carry, kind))), ops.flip(ops.cast(move, "int8"), 1)

    end = _Score(ops.where(only(lattice.first, states), 0, LOWEST), ops.zeros_like(scores[0]))
    inputs = (ops.cast(floor, "int32"), scores - floor)
    value, moves = backend.scan(step, seen(end), inputs, reverse=True, fetch_ahead=False)
    return _Score(*(ops.flip(along(arcs, x)[0], 1) for x in value)), moves


def _best_place(scores: _Score) -> Tensor:
    """Return the index of the best state of scores `(batch, states)`, int32 `(batch,)`; the lowest of equals."""
    top = ops.max(scores.whole, axis=1, keepdims=True, initial=-(2**31))
    near = ops.maximum(scores.whole - top, -2)
    return ops.cast(ops.argmax(ops.cast(near, scores.rest.dtype) + scores.rest, axis=1), "int32")


def _trace(first: Tensor, moves: Tensor, lattice: Lattice) -> Tensor:
    """Return the states int32 `(time, batch)` along `moves`, from `first`; arbitrary after the last frame."""
    offsets = ops.convert_to_tensor([arc.offset for arc in lattice.arcs], dtype="int32")
    last = ops.shape(lattice.emitted)[0] - 1

    def step(state: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
        move = ops.take_along_axis(moves, state[:, None], axis=1)[:, 0]
        return ops.minimum(state + ops.take(offsets, ops.cast(move, "int32")), last), state

    return backend.scan(step, first, moves, fetch_ahead=False)[1]
