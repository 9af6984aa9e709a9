"""Selection, reordering and recording of hypotheses.

A search is one row's, or one group's of the row's hypotheses: `searches` is batch x groups, and `beam` is the number of
live hypotheses of one search.
"""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import LOG_ZERO, Decoded, Nest

RUN = 32  # tokens that are ranked by their largest first: the 8 best of 64,000 take a third of the time
FEWEST_RUNS = 8  # for each hypothesis: with fewer, all continuations are ranked at once
NO_HYPOTHESIS = LOG_ZERO / 2  # a sum below it contains the logarithm of zero


class Selected(NamedTuple):
    """The best continuations of live hypotheses.

    Attributes:
        hypotheses: int32 `(searches, beam)`, the place of the hypothesis that each one continues.
        tokens: int32 `(searches, beam)`, its token; never eos.
        totals: float32 `(searches, beam)`, the sums of log-probabilities, best first.
        ends: float32 `(searches, beam * ends)`, the sum of each live hypothesis if it ends now, in the first of the
            tokens that end it, the second ...; `LOG_ZERO` if that is not within the beam.
    """

    hypotheses: Tensor
    tokens: Tensor
    totals: Tensor
    ends: Tensor


def best_continuations(ranks: Tensor, totals: Tensor, eos_ids: tuple[int, ...]) -> Selected:
    """Return the continuations with the best ranks, as many as there are hypotheses, and which hypotheses may end.

    Args:
        ranks: float32 `(searches, beam, vocabulary)`, the values by which continuations are compared.
        totals: Their sums of log-probabilities.
        eos_ids: The tokens that end a hypothesis, ascending.
    """
    beam, vocabulary = ranks.shape[1:]
    index = ops.arange(vocabulary, dtype="int32")
    is_eos = index == eos_ids[0]
    for token in eos_ids[1:]:
        is_eos = ops.logical_or(is_eos, index == token)
    kept, hypotheses, tokens = largest(ops.where(is_eos, LOG_ZERO, ranks))  # (searches, beam) each
    # An end must be within the beam like a continuation: not below the last one that goes on, whose index breaks ties.
    end_index = ops.arange(beam, dtype="int32")[:, None] * vocabulary + np.array(eos_ids, "int32")  # (beam, ends)
    # Not as slices: sliced, XLA would turn `largest` into a sort of all continuations.
    last = ops.min(kept, axis=1)[:, None, None]
    is_last = ops.arange(beam, dtype="int32") == beam - 1
    last_index = ops.sum(ops.where(is_last, hypotheses * vocabulary + tokens, 0), axis=1)[:, None, None]
    end_ranks = _columns(ranks, eos_ids)
    before = ops.logical_or(end_ranks > last, ops.logical_and(end_ranks == last, end_index < last_index))
    ends = ops.where(before, end_ranks if ranks is totals else _columns(totals, eos_ids), LOG_ZERO)
    if ranks is not totals:
        chosen = ops.take_along_axis(totals, hypotheses[..., None], axis=1)  # (searches, beam, vocabulary)
        own = ops.take_along_axis(chosen, tokens[..., None], axis=2)[..., 0]
        kept = ops.where(kept > NO_HYPOTHESIS, own, LOG_ZERO)  # with nothing else left, the place holds a masked end
    return Selected(hypotheses, tokens, kept, ops.reshape(ends, (ops.shape(ends)[0], beam * len(eos_ids))))


def _columns(values: Tensor, tokens: tuple[int, ...]) -> Tensor:
    return ops.stack([values[..., token] for token in tokens], axis=-1)


def largest(ranks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the `beam` largest of `(searches, beam, vocabulary)` per search: ranks, hypotheses and tokens.

    Among equals the lower (hypothesis, token) wins. Many continuations are divided into runs of `RUN`, and only the
    `beam` runs with the largest maxima are ranked: each of them holds a value at least as large as any outside.
    """
    searches, beam, vocabulary = ops.shape(ranks)
    size = beam * vocabulary
    ranks = ops.reshape(ranks, (searches, size))
    runs = size // RUN
    if runs < FEWEST_RUNS * beam:
        ranks, index = ops.top_k(ranks, beam)  # (searches, beam) each
        index = ops.cast(index, "int32")
    else:
        maxima = ops.max(ops.reshape(ranks[:, : runs * RUN], (searches, runs, RUN)), axis=-1)
        _, best = ops.top_k(maxima, beam)
        best = ops.sort(ops.cast(best, "int32"), axis=-1)  # in the order of `ranks`, which breaks ties
        candidates = ops.reshape(best[..., None] * RUN + ops.arange(RUN, dtype="int32"), (searches, beam * RUN))
        rest = ops.arange(runs * RUN, size, dtype="int32")
        candidates = ops.concatenate([candidates, ops.broadcast_to(rest, (searches, size - runs * RUN))], axis=1)
        ranks, index = ops.top_k(ops.take_along_axis(ranks, candidates, axis=1), beam)
        index = ops.take_along_axis(candidates, ops.cast(index, "int32"), axis=1)
    return ranks, index // vocabulary, index % vocabulary


def repeat_rows(nest: Nest, times: int) -> Nest:
    """Return tensors `(batch, ...)` as `(batch * times, ...)`, each row repeated `times` times."""
    return keras.tree.map_structure(lambda x: ops.repeat(x, times, axis=0), nest)


def take_hypotheses(nest: Nest, hypotheses: Tensor) -> Nest:
    """Reorder tensors `(batch, beam, ...)` by `hypotheses`, int32 `(batch, n)`, to `(batch, n, ...)`."""

    def take(x: Tensor) -> Tensor:
        index = ops.reshape(hypotheses, (*ops.shape(hypotheses), *([1] * (len(x.shape) - 2))))
        return ops.take_along_axis(x, index, axis=1)

    return keras.tree.map_structure(take, nest)


def best_first(decoded: Decoded, scores: Tensor) -> Decoded:
    """Return hypotheses sorted by `scores`, float32 `(batch, n)`, the best first; of equals the first stays first."""
    _, best = ops.top_k(scores, scores.shape[1])
    alignments = decoded.alignments
    decoded = decoded._replace(alignments=() if alignments is None else alignments)
    decoded = take_hypotheses(decoded, ops.cast(best, "int32"))
    return decoded._replace(alignments=None) if alignments is None else decoded


def by_batch(values: Tensor, hypotheses: int) -> Tensor:
    """Return `(batch * hypotheses, ...)` as `(batch, hypotheses, ...)`."""
    rows, *rest = ops.shape(values)
    return ops.reshape(values, (rows // hypotheses, hypotheses, *rest))


def record(buffer: Tensor, position: Tensor, values: Tensor) -> Tensor:
    """Return `buffer` `(max_length, ...)` with `values` `(...)` at `position`, an int32 scalar."""
    here = ops.arange(buffer.shape[0], dtype="int32") == position
    return ops.where(ops.reshape(here, (-1, *([1] * len(values.shape)))), values, buffer)


def put(buffer: Tensor, position: Tensor, values: Tensor) -> Tensor:
    """Return `buffer` `(rows, max_length)` with `values` `(rows,)` at `position`, an int32 scalar."""
    here = ops.arange(buffer.shape[-1], dtype="int32") == position  # (max_length,)
    return ops.where(here, values[..., None], buffer)
