"""The hypotheses of a search with a beam, and how they are gathered.

A search is one row's, or one group's of the row's hypotheses: `searches` is batch x groups, and `beam` one group's.
"""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import LOG_ZERO, Nest
from kseq.decoding.task import Carried

RUN = 32  # continuations of which only the largest is ranked first: 8 of 64,000 take a third of the time
FEWEST_RUNS = 8  # for each hypothesis: with fewer, all continuations are ranked at once
NO_HYPOTHESIS = LOG_ZERO / 2  # Below it a sum contains the logarithm of zero.


class Written(NamedTuple):
    """What hypotheses have written, and where it came from.

    Attributes:
        tokens: int32 `(searches, hypotheses, max_length)`, pad after the end.
        slots: int32 `(searches, hypotheses, max_length)`, the place in the beam that each token was predicted from.
        log_probabilities: float32 `(searches, hypotheses, max_length)`, zero after the end.
    """

    tokens: Tensor
    slots: Tensor
    log_probabilities: Tensor


class Live(NamedTuple):
    """The hypotheses that go on, best first.

    Attributes:
        written: `hypotheses` is the beam.
        totals: float32 `(searches, beam)`, the sums of their log-probabilities; below `NO_HYPOTHESIS` there is none.
        coverage: float32 `(searches, beam, source_time)`, the sums of their alignments, or () without coverage penalty.
    """

    written: Written
    totals: Tensor
    coverage: Nest


class Finished(NamedTuple):
    """The best hypotheses that have ended, best first.

    Attributes:
        written: `hypotheses` is the beam.
        lengths: int32 `(searches, beam)`.
        scores: float32 `(searches, beam)`, `LOG_ZERO` where there is none.
        ended: bool `(searches, beam)`, whether in eos.
    """

    written: Written
    lengths: Tensor
    scores: Tensor
    ended: Tensor


class Loop(NamedTuple):
    """The state of the search.

    Attributes:
        position: int32 scalar, the length of the live hypotheses.
        last: int32 `(searches * beam,)`, their last tokens.
        carried: Their states.
        live: The hypotheses that go on.
        finished: Those that have ended.
        alignments: float32 `(max_length, searches * beam, source_time)`, by position and place in the beam, or ().
        source: bool `(searches, source_time)`, the source positions that are real, or, if that is not known, those that
            some hypothesis has looked at, or ().
        ends: int32 `(searches,)`, how many hypotheses have ended, kept or not, or () without patience.
    """

    position: Tensor
    last: Tensor
    carried: Carried
    live: Live
    finished: Finished
    alignments: Nest
    source: Nest
    ends: Nest


class Selected(NamedTuple):
    """The live hypotheses' best continuations.

    Attributes:
        hypotheses: int32 `(searches, beam)`, whose continuation each is.
        tokens: int32 `(searches, beam)`, by which token; never eos.
        totals: float32 `(searches, beam)`, the sums of log-probabilities, best first.
        ends: float32 `(searches, beam * ends)`, each live hypothesis's sum if it ends now, in the first of the tokens
            that end it, the second ...; `LOG_ZERO` if that is not within the beam.
    """

    hypotheses: Tensor
    tokens: Tensor
    totals: Tensor
    ends: Tensor


class Grown(NamedTuple):
    """The live hypotheses' best continuations, and what goes with them.

    Attributes:
        carried: The states, not yet reordered.
        selected: The continuations.
        coverage: float32 `(searches, beam, source_time)` of each live hypothesis, this step included, or ().
        alignments: As in `Loop`, this step included.
        source: As in `Loop`, this step included.
    """

    carried: Carried
    selected: Selected
    coverage: Nest
    alignments: Nest
    source: Nest


def append(written: Written, position: Tensor, tokens: Tensor, slots: Tensor, log_probabilities: Tensor) -> Written:
    """Return `written` with one more token for each hypothesis, at `position`; `(batch, hypotheses)` each."""
    return Written(
        tokens=put(written.tokens, position, tokens),
        slots=put(written.slots, position, slots),
        log_probabilities=put(written.log_probabilities, position, log_probabilities),
    )


def best_continuations(ranks: Tensor, totals: Tensor, eos_ids: tuple[int, ...]) -> Selected:
    """Return the continuations with the best ranks, as many as there are hypotheses, and which hypotheses may end.

    Args:
        ranks: float32 `(searches, beam, vocabulary)`, what continuations are compared by.
        totals: Their sums of log-probabilities.
        eos_ids: The tokens that end a hypothesis, ascending.
    """
    beam, vocabulary = ranks.shape[1:]
    index = ops.arange(vocabulary, dtype="int32")
    is_eos = index == eos_ids[0]
    for token in eos_ids[1:]:
        is_eos = ops.logical_or(is_eos, index == token)
    kept, hypotheses, tokens = largest(ops.where(is_eos, LOG_ZERO, ranks))  # (searches, beam) each
    # An end must be within the beam as a continuation must: not below the last that goes on, whose index breaks ties.
    end_index = ops.arange(beam, dtype="int32")[:, None] * vocabulary + np.array(eos_ids, "int32")  # (beam, ends)
    # Not as slices: XLA would take them of the sort behind `largest`, and then sort all there is.
    last = ops.min(kept, axis=1)[:, None, None]
    is_last = ops.arange(beam, dtype="int32") == beam - 1
    last_index = ops.sum(ops.where(is_last, hypotheses * vocabulary + tokens, 0), axis=1)[:, None, None]
    end_ranks = _columns(ranks, eos_ids)
    before = ops.logical_or(end_ranks > last, ops.logical_and(end_ranks == last, end_index < last_index))
    ends = ops.where(before, end_ranks if ranks is totals else _columns(totals, eos_ids), LOG_ZERO)
    if ranks is not totals:
        chosen = ops.take_along_axis(totals, hypotheses[..., None], axis=1)  # (searches, beam, vocabulary)
        own = ops.take_along_axis(chosen, tokens[..., None], axis=2)[..., 0]
        kept = ops.where(kept > NO_HYPOTHESIS, own, LOG_ZERO)  # an end may fill a place that nothing else can
    return Selected(hypotheses, tokens, kept, ops.reshape(ends, (ops.shape(ends)[0], beam * len(eos_ids))))


def _columns(values: Tensor, tokens: tuple[int, ...]) -> Tensor:
    return ops.stack([values[..., token] for token in tokens], axis=-1)


def largest(ranks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the `beam` largest of `(searches, beam, vocabulary)` per search: ranks, hypotheses and tokens.

    Among equals the lower (hypothesis, token) wins. Of many continuations only those are ranked that stand in one of
    the `beam` runs of `RUN` with the largest maxima: `beam` that go before lie in them if one lies elsewhere.
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
        best = ops.sort(ops.cast(best, "int32"), axis=-1)  # in their order in `ranks`, which breaks ties
        candidates = ops.reshape(best[..., None] * RUN + ops.arange(RUN, dtype="int32"), (searches, beam * RUN))
        rest = ops.arange(runs * RUN, size, dtype="int32")
        candidates = ops.concatenate([candidates, ops.broadcast_to(rest, (searches, size - runs * RUN))], axis=1)
        ranks, index = ops.top_k(ops.take_along_axis(ranks, candidates, axis=1), beam)
        index = ops.take_along_axis(candidates, ops.cast(index, "int32"), axis=1)
    return ranks, index // vocabulary, index % vocabulary


def best_finished(old: Finished, new: Finished, count: int) -> Finished:
    """Return the best `count` of both, best first; `old` goes before `new` among equals."""
    both = keras.tree.map_structure(
        lambda a, b: ops.concatenate([a, b], axis=1), old, new
    )  # (searches, old + new, ...)
    scores, best = ops.top_k(both.scores, count)  # (searches, count)
    return take_hypotheses(both, ops.cast(best, "int32"))._replace(scores=scores)


def repeat_rows(nest: Nest, times: int) -> Nest:
    """Return tensors `(batch, ...)` as `(batch * times, ...)`, each row `times` times in a row."""
    return keras.tree.map_structure(lambda x: ops.repeat(x, times, axis=0), nest)


def take_hypotheses(nest: Nest, hypotheses: Tensor) -> Nest:
    """Reorder tensors `(batch, beam, ...)` by `hypotheses`, int32 `(batch, n)`, to `(batch, n, ...)`."""

    def take(x: Tensor) -> Tensor:
        index = ops.reshape(hypotheses, (*ops.shape(hypotheses), *([1] * (len(x.shape) - 2))))
        return ops.take_along_axis(x, index, axis=1)

    return keras.tree.map_structure(take, nest)


def read_alignments(buffer: Tensor, slots: Tensor, real: Tensor, beam: int) -> Tensor:
    """Return float32 `(batch, hypotheses, max_length, source_time)`, zero where not `real`.

    Args:
        buffer: float32 `(max_length, batch * beam, source_time)`, by position and place in the beam.
        slots: int32 `(batch, hypotheses, max_length)`, the places to read.
        real: bool `(batch, hypotheses, max_length)`.
        beam: How many places a row's beam has.
    """
    max_length, rows, source_time = ops.shape(buffer)
    alignments = ops.transpose(ops.reshape(buffer, (max_length, rows // beam, beam, source_time)), (1, 2, 0, 3))
    return ops.where(real[..., None], ops.take_along_axis(alignments, slots[..., None], axis=1), 0.0)


def record(buffer: Tensor, position: Tensor, values: Tensor) -> Tensor:
    """Return `buffer` `(max_length, rows, source_time)` with `values` `(rows, source_time)` at `position`."""
    here = ops.arange(buffer.shape[0], dtype="int32") == position  # (max_length,)
    return ops.where(here[:, None, None], values, buffer)


def put(buffer: Tensor, position: Tensor, values: Tensor) -> Tensor:
    """Return `buffer` `(..., max_length)` with `values` `(...)` at `position`, an int32 scalar."""
    here = ops.arange(buffer.shape[-1], dtype="int32") == position  # (max_length,)
    return ops.where(here, values[..., None], buffer)
