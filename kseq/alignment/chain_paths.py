"""The most probable sequences of tags of a linear chain, by the Viterbi and the list Viterbi algorithm.

The best score of the tags from step t to the last, if that of step t is i, is

    best_t(i) = scores_t(i) + max over j of transitions(i, j) + best_{t+1}(j)

and the list Viterbi algorithm has the n best in its place. A sequence then follows from the first tag on. In each step
the largest score is subtracted, so that the differences between sequences keep their precision.

References:
    - A. Viterbi, "Error bounds for convolutional codes and an asymptotically optimum decoding algorithm", 1967.
    - N. Seshadri, C.-E. Sundberg, "List Viterbi decoding algorithms with applications", 1994.
"""

import numpy as np
from keras import ops

from kseq import backend
from kseq.alignment.chain_potentials import Potentials
from kseq.backend import Tensor

LOWEST = -1e35  # in place of -inf, so that differences are numbers; the sum of three of them is finite


def best_sequences(each: Potentials, count: int) -> tuple[Tensor, Tensor]:
    """Return the most probable sequences of tags, best first; equally probable ones are in lexicographic order.

    Returns:
        `(tags, exists)`: int32 `(count, time, batch)`, arbitrary in the padding and where there is no sequence, and
        bool `(count, batch)`, False where there are fewer sequences. A row without steps has one, without tags. Whether
        the first sequence has a probability above zero is not told.
    """
    if count == 1:
        return _best(each)[None], ops.ones_like(each.inside[:1])
    tags, exists = _several(each, count)
    first = ops.arange(count)[:, None] == 0
    return tags, ops.where(each.inside[0][None], exists, first)


def _best(each: Potentials) -> Tensor:
    """Return the best sequence, int32 `(time, batch)`.

    The padding is a tag of its own, which follows all others, so that the steps of the loop need no mask.
    """
    inside = each.inside[:, :, None]
    scores = ops.where(inside, ops.maximum(each.scores, LOWEST), LOWEST)
    scores = ops.concatenate([scores, ops.where(inside, LOWEST, 0.0)], axis=2)  # (time, batch, tags + 1)
    steps = ops.concatenate([ops.maximum(each.transitions, LOWEST), ops.maximum(each.end, LOWEST)[:, None]], axis=1)
    to_itself = ops.where(ops.arange(ops.shape(steps)[1]) == ops.shape(each.end)[0], 0.0, LOWEST)
    steps = ops.concatenate([steps, to_itself[None]], axis=0)  # (from, to)
    turned = ops.transpose(steps)

    def step(after: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        best = scores + ops.max(after[:, :, None] + turned, axis=1, initial=LOWEST)  # (batch, from)
        best = best - ops.max(best, axis=1, keepdims=True, initial=LOWEST)
        return best, best

    def trace(tag: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
        tag = ops.cast(ops.argmax(ops.take(steps, tag, axis=0) + best, axis=1), "int32")
        return tag, tag

    end = ops.zeros_like(scores[0]) + to_itself
    _, best = backend.scan(step, end, scores, reverse=True, fetch_ahead=False)
    first = ops.cast(ops.argmax(best[0], axis=1), "int32")
    _, others = backend.scan(trace, first, best[1:], fetch_ahead=False)
    return ops.concatenate([first[None], others], axis=0)


def _several(each: Potentials, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` best sequences, as `best_sequences` does."""
    rows, tags = ops.shape(each.scores)[1:]
    places = tags * count  # a tag, and the rank of a sequence among those that begin with it

    def step(after: Tensor, at: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        scores, last = at
        onward = ops.reshape(after, (-1, 1, tags, count)) + each.transitions[None, :, :, None]
        onward, moves = ops.top_k(ops.reshape(onward, (-1, tags, places)), count)  # (batch, from, count)
        best = scores[:, :, None] + ops.where(last[:, :, None], end, onward)
        return _shifted(ops.reshape(best, (-1, places))), ops.reshape(ops.cast(moves, "int32"), (-1, places))

    def trace(place: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
        return ops.take_along_axis(moves, place, axis=1), place // count

    nothing = ops.full((tags, count - 1), -np.inf, dtype="float32")
    end = ops.concatenate([each.end[:, None], nothing], axis=1)
    start = ops.zeros((rows, places), dtype="float32")
    inputs = each.scores, each.last[:, :, None]
    best, moves = backend.scan(step, start, inputs, reverse=True, fetch_ahead=False)
    scores, place = ops.top_k(best, count)
    _, found = backend.scan(trace, ops.cast(place, "int32"), moves, fetch_ahead=False)
    return ops.transpose(found, (2, 0, 1)), ops.transpose(scores > -np.inf)


def _shifted(values: Tensor) -> Tensor:
    """Return values `(batch, n)` less their maximum; -inf remains -inf."""
    top = ops.max(values, axis=1, keepdims=True, initial=-np.inf)
    return values - ops.where(top > -np.inf, top, 0.0)
