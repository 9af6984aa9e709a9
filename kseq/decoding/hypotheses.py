"""The hypotheses of a search with a beam, and how they are gathered."""

from typing import NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import LOG_ZERO, Nest
from kseq.decoding.task import Carried

NO_HYPOTHESIS = LOG_ZERO / 2  # Below it a sum contains the logarithm of zero.


class Written(NamedTuple):
    """What hypotheses have written, and where it came from.

    Attributes:
        tokens: int32 `(batch, hypotheses, max_length)`, pad after the end.
        slots: int32 `(batch, hypotheses, max_length)`, the place in the beam that each token was predicted from.
        log_probabilities: float32 `(batch, hypotheses, max_length)`, zero after the end.
    """

    tokens: Tensor
    slots: Tensor
    log_probabilities: Tensor


class Live(NamedTuple):
    """The hypotheses that go on, best first.

    Attributes:
        written: `hypotheses` is the beam.
        totals: float32 `(batch, beam)`, the sums of their log-probabilities; below `NO_HYPOTHESIS` there is none.
        coverage: float32 `(batch, beam, source_time)`, the sums of their alignments, or () without coverage penalty.
    """

    written: Written
    totals: Tensor
    coverage: Nest


class Finished(NamedTuple):
    """The best hypotheses that have ended, best first.

    Attributes:
        written: `hypotheses` is the beam.
        lengths: int32 `(batch, beam)`.
        scores: float32 `(batch, beam)`, `LOG_ZERO` where there is none.
        ended: bool `(batch, beam)`, whether in eos.
    """

    written: Written
    lengths: Tensor
    scores: Tensor
    ended: Tensor


class Loop(NamedTuple):
    """The state of the search.

    Attributes:
        position: int32 scalar, the length of the live hypotheses.
        last: int32 `(batch * beam,)`, their last tokens.
        carried: Their states.
        live: The hypotheses that go on.
        finished: Those that have ended.
        alignments: float32 `(max_length, batch * beam, source_time)`, by position and place in the beam, or ().
        source: bool `(batch, source_time)`, the source positions that some hypothesis has looked at, or ().
    """

    position: Tensor
    last: Tensor
    carried: Carried
    live: Live
    finished: Finished
    alignments: Nest
    source: Nest


class Grown(NamedTuple):
    """The live hypotheses' best continuations.

    Attributes:
        carried: The states, not yet reordered.
        hypotheses: int32 `(batch, beam)`, whose continuation each is.
        tokens: int32 `(batch, beam)`, by which token; never eos.
        totals: float32 `(batch, beam)`, the sums of log-probabilities, best first.
        ends: float32 `(batch, beam)`, each live hypothesis's sum if it ends now; `LOG_ZERO` if that is not within the
            beam.
        coverage: float32 `(batch, beam, source_time)` of each live hypothesis, this step included, or ().
        alignments: As in `Loop`, this step included.
        source: As in `Loop`, this step included.
    """

    carried: Carried
    hypotheses: Tensor
    tokens: Tensor
    totals: Tensor
    ends: Tensor
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


def best_finished(old: Finished, new: Finished, count: int) -> Finished:
    """Return the best `count` of both, best first; `old` goes before `new` among equals."""
    both = keras.tree.map_structure(lambda a, b: ops.concatenate([a, b], axis=1), old, new)  # (batch, 2 * beam, ...)
    _, best = ops.top_k(both.scores, count)  # (batch, count)
    return take_hypotheses(both, ops.cast(best, "int32"))


def repeat_rows(nest: Nest, times: int) -> Nest:
    """Return tensors `(batch, ...)` as `(batch * times, ...)`, each row `times` times in a row."""
    return keras.tree.map_structure(lambda x: ops.repeat(x, times, axis=0), nest)


def take_rows(nest: Nest, hypotheses: Tensor) -> Nest:
    """Reorder tensors `(batch * beam, ...)` by `hypotheses`, int32 `(batch, beam)`, each within its own row."""
    batch, beam = ops.shape(hypotheses)
    rows = ops.arange(batch, dtype="int32")[:, None] * beam + hypotheses  # (batch, beam)
    rows = ops.reshape(rows, (batch * beam,))
    return keras.tree.map_structure(lambda x: ops.take(x, rows, axis=0), nest)


def take_hypotheses(nest: Nest, hypotheses: Tensor) -> Nest:
    """Reorder tensors `(batch, beam, ...)` by `hypotheses`, int32 `(batch, n)`, to `(batch, n, ...)`."""

    def take(x: Tensor) -> Tensor:
        index = ops.reshape(hypotheses, (*ops.shape(hypotheses), *([1] * (len(x.shape) - 2))))
        return ops.take_along_axis(x, index, axis=1)

    return keras.tree.map_structure(take, nest)


def record(buffer: Tensor, position: Tensor, values: Tensor) -> Tensor:
    """Return `buffer` `(max_length, rows, source_time)` with `values` `(rows, source_time)` at `position`."""
    here = ops.arange(buffer.shape[0], dtype="int32") == position  # (max_length,)
    return ops.where(here[:, None, None], values, buffer)


def put(buffer: Tensor, position: Tensor, values: Tensor) -> Tensor:
    """Return `buffer` `(..., max_length)` with `values` `(...)` at `position`, an int32 scalar."""
    here = ops.arange(buffer.shape[-1], dtype="int32") == position  # (max_length,)
    return ops.where(here, values[..., None], buffer)
