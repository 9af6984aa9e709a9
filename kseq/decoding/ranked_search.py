"""Beam searches: the best continuations go on, and the hypotheses that end are ranked by a score."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.backtrace import read, trace
from kseq.decoding.checks import shapes_fit
from kseq.decoding.decoding import LOG_ZERO, Decoded, Nest
from kseq.decoding.hypotheses import NO_HYPOTHESIS, Selected, best_continuations, take_hypotheses
from kseq.decoding.search_loop import Grown, Loop
from kseq.decoding.strategy import Strategy
from kseq.decoding.task import Predicted, Start, Task

COVERAGE_FLOOR = 1e-9  # the least coverage of a source position: the penalty stays finite where none looked at it
LARGEST_EXPONENT = 10  # of the length penalty: 500 tokens to this power are 1e27, within float32

EarlyStopping = bool | Literal["never", "estimate"]


class Live(NamedTuple):
    """The hypotheses that go on, best first, and the counts of their search.

    Attributes:
        totals: float32 `(searches, beam)`, the sums of their log-probabilities; below `NO_HYPOTHESIS` there is none.
        coverage: float32 `(searches, beam, source_time)`, the sums of their alignments, or () without coverage penalty.
        source: bool `(searches, source_time)`, the source positions that coverage counts, or (). Without a
            `source_mask` those that some hypothesis has given a weight so far.
        ends: int32 `(searches,)`, how many hypotheses have ended, in the list or not, or () without patience.
    """

    totals: Tensor
    coverage: Nest
    source: Nest
    ends: Nest


class Ended(NamedTuple):
    """The best hypotheses that have ended, best first, `(searches, n)` each.

    Attributes:
        scores: float32, `LOG_ZERO` where there is none.
        origins: int32, `position * places + place`, for the position of the token that ends the hypothesis, the place
            in the beam that it was predicted from, and the number of places: live hypotheses x tokens that end.
        log_probabilities: float32, that token's.
    """

    scores: Tensor
    origins: Tensor
    log_probabilities: Tensor


class Choice(NamedTuple):
    """The part of a selection that `collect` and `keep` read.

    Attributes:
        selected: The continuations.
        coverage: As in `Live`, of the old hypotheses, this step included.
        source: As in `Live`, this step included.
    """

    selected: Selected
    coverage: Nest
    source: Nest


@dataclass(frozen=True, kw_only=True)
class RankedSearch(Strategy):
    """Base class of beam searches, with their common options; see `beam_search`.

    Raises:
        ValueError: If an option is out of range.
    """

    beam_width: int = 4
    top_paths: int = 1
    length_penalty: float = 0.0
    length_penalty_kind: str = "gnmt"
    coverage_penalty: float = 0.0
    early_stopping: EarlyStopping = True
    patience: float | None = None
    score_margin: float | None = None

    def __post_init__(self) -> None:
        for name in ("patience", "score_margin"):  # infinity is no limit, which is None
            value = getattr(self, name)
            if isinstance(value, float | np.floating) and value == math.inf:
                object.__setattr__(self, name, None)
        if isinstance(self.early_stopping, np.bool_):
            object.__setattr__(self, "early_stopping", bool(self.early_stopping))
        super().__post_init__()
        if self.beam_width < 1:
            raise ValueError(f"beam_width must be 1 or more, but got beam_width={self.beam_width}.")
        if not 1 <= self.top_paths <= self.beam_width:
            raise ValueError(
                f"top_paths must be between 1 and beam_width, but got top_paths={self.top_paths} and "
                f"beam_width={self.beam_width}. Widen the beam, or ask for fewer hypotheses."
            )
        if abs(self.length_penalty) > LARGEST_EXPONENT:
            raise ValueError(
                f"length_penalty must be between -{LARGEST_EXPONENT} and {LARGEST_EXPONENT}, but got "
                f"length_penalty={self.length_penalty}: beyond that, scores of long hypotheses leave float32. Usual "
                "values are between 0 and 2."
            )
        if self.length_penalty_kind not in ("gnmt", "average"):
            raise ValueError(
                f"length_penalty_kind must be 'gnmt' or 'average', but got {self.length_penalty_kind!r}: 'gnmt' "
                "divides by ((5 + length) / 6) ** length_penalty, 'average' by length ** length_penalty."
            )
        if self.coverage_penalty < 0:
            raise ValueError(f"coverage_penalty must be 0 or more, but got coverage_penalty={self.coverage_penalty}.")
        if not isinstance(self.early_stopping, bool) and self.early_stopping not in ("never", "estimate"):  # 1 == True
            raise ValueError(
                f"early_stopping must be True, False, 'never' or 'estimate', but got {self.early_stopping!r}."
            )
        if self.patience is not None and self.patience <= 0:
            raise ValueError(f"patience must be above 0, or None, but got patience={self.patience}.")
        if self.score_margin is not None and self.score_margin <= 0:
            raise ValueError(
                f"score_margin must be a positive number of nats, or None for no pruning, but got "
                f"score_margin={self.score_margin}."
            )

    @property
    def hypotheses(self) -> int:
        """The width of the beam."""
        return self.beam_width

    @property
    def reorders(self) -> bool:
        """Whether hypotheses may continue others: yes."""
        return True

    def continuations(self, totals: Tensor, eos_ids: tuple[int, ...]) -> Selected:
        """Return the continuations that go on, and which hypotheses may end.

        Args:
            totals: float32 `(searches, beam, vocabulary)`, the sums of log-probabilities of the live hypotheses
                continued by each token; searches = batch x groups, and `beam` is one group's.
            eos_ids: The tokens that end a hypothesis.
        """
        return best_continuations(totals, totals, eos_ids)

    def begin(self, task: Task, start: Start) -> tuple[Live, Ended]:
        """Return one empty hypothesis of each search, and no ended one."""
        covers = bool(self.coverage_penalty)
        if covers and start.source_time is None:
            raise ValueError(
                f"coverage_penalty={self.coverage_penalty} needs a step that returns (logits, state, alignments), but "
                "it returned (logits, state). Return the attention weights (rows, source_time), or use "
                "coverage_penalty=0."
            )
        searches, beam = start.batch * self.groups, self.beam_width // self.groups
        # One hypothesis is alive: equal ones would fill the beam with copies.
        totals = ops.cast(ops.where(ops.arange(beam) == 0, 0.0, LOG_ZERO), "float32")
        live = Live(
            totals=ops.broadcast_to(totals, (searches, beam)),
            coverage=ops.zeros((searches, beam, start.source_time), dtype="float32") if covers else (),
            source=self._source(task, start) if covers else (),
            ends=() if self.patience is None else ops.zeros((searches,), dtype="int32"),
        )
        ended = Ended(
            scores=ops.full((searches, beam), LOG_ZERO, dtype="float32"),
            origins=ops.zeros((searches, beam), dtype="int32"),
            log_probabilities=ops.zeros((searches, beam), dtype="float32"),
        )
        return live, ended

    def select(self, task: Task, loop: Loop, predicted: Predicted) -> Grown:
        """Choose the best continuations of all live hypotheses."""
        searches, beam = ops.shape(loop.live.totals)
        continued = ops.reshape(predicted.log_probabilities, (searches, beam, predicted.log_probabilities.shape[-1]))
        selected = self.continuations(loop.live.totals[..., None] + continued, task.eos_ids)
        before = take_hypotheses(loop.live.totals, selected.hypotheses)
        return Grown(
            carried=predicted.carried,
            alignments=predicted.alignments,
            tokens=selected.tokens,
            log_probabilities=selected.totals - before,
            hypotheses=selected.hypotheses,
            extra=Choice(selected, *self._covered(task, loop.live, predicted.alignments)),
        )

    def _covered(self, task: Task, live: Live, alignments: Nest) -> tuple[Nest, Nest]:
        """Return coverage and source positions with the alignments of one more step; () without coverage penalty."""
        if not self.coverage_penalty:
            return (), ()
        searches, beam = ops.shape(live.totals)
        weights = ops.reshape(alignments, (searches, beam, ops.shape(alignments)[1]))
        looked = ops.logical_or(live.source, ops.any(weights > 0, axis=1))
        return live.coverage + weights, looked if task.source_mask is None else live.source

    def collect(self, task: Task, loop: Loop, grown: Grown) -> Ended:
        """Merge the hypotheses that end at this step into the best that have ended."""
        beam, count = loop.live.totals.shape[1], len(task.eos_ids)
        selected, coverage, source = grown.extra
        totals, coverage = (  # each hypothesis ends in each of the tokens
            keras.tree.map_structure(lambda x: x if count == 1 else ops.repeat(x, count, axis=1), nest)
            for nest in (loop.live.totals, coverage)
        )
        places = ops.arange(beam * count, dtype="int32")
        new = Ended(
            scores=self.score(selected.ends, self._scored(task, loop.position + 1), coverage, source),
            origins=ops.broadcast_to(loop.position * (beam * count) + places, ops.shape(selected.ends)),
            log_probabilities=selected.ends - totals,
        )
        return _best(loop.ended, new, beam)[0]

    def keep(self, task: Task, loop: Loop, grown: Grown, ended: Ended) -> Live:
        """Go on with the best continuations, unless the row is done."""
        selected, coverage, source = grown.extra
        ends = loop.live.ends
        if self.patience is not None:
            ends = ends + ops.sum(ops.cast(selected.ends > NO_HYPOTHESIS, "int32"), axis=1)
        done = self._done(task, selected.totals, loop.position + 1, ended, ends)
        # A row that is done has nothing alive, so that nothing can enter its answer while the others go on.
        totals = self._pruned(selected.totals)
        totals = totals if done is None else ops.where(done[:, None], LOG_ZERO, totals)
        return Live(totals, take_hypotheses(coverage, selected.hypotheses), source, ends)

    def _pruned(self, totals: Tensor) -> Tensor:
        """Return sums of live hypotheses `(searches, beam)`, `LOG_ZERO` if too far below the best of their search."""
        if self.score_margin is None:
            return totals
        best = ops.max(totals, axis=1, keepdims=True)
        return ops.where(totals < best - self.score_margin, LOG_ZERO, totals)

    def goes_on(self, loop: Loop) -> Tensor:
        """Return whether any hypothesis is alive, a bool scalar."""
        return ops.any(loop.live.totals > NO_HYPOTHESIS)

    def answer(self, task: Task, loop: Loop) -> Decoded:
        """Rank the hypotheses that reached `max_length` with those that ended, and read the best."""
        totals, beam, count = loop.live.totals, loop.live.totals.shape[1], len(task.eos_ids)
        places = ops.arange(beam, dtype="int32") * count
        unfinished = Ended(
            scores=self.score(totals, self._scored(task, loop.position), loop.live.coverage, loop.live.source),
            origins=ops.broadcast_to(loop.position * (beam * count) + places, ops.shape(totals)),
            log_probabilities=ops.zeros_like(totals),
        )
        best, index = _best(loop.ended, unfinished, self.top_paths if self.groups == 1 else beam)
        finished, group = index < beam, ops.zeros_like(index)
        if self.groups > 1:
            group = ops.arange(ops.shape(totals)[0], dtype="int32")[:, None] % self.groups + group
            *best, finished, group = (_by_row(x, self.groups) for x in (*best, finished, group))
            _, index = ops.top_k(best[0], self.top_paths)
            *best, finished, group = take_hypotheses((*best, finished, group), ops.cast(index, "int32"))
        return self._read(task, loop, Ended(*best), finished, group)

    def _read(self, task: Task, loop: Loop, best: Ended, finished: Tensor, group: Tensor) -> Decoded:
        """Return the hypotheses `best`, `(batch, top_paths)`, of which `finished` ended with a token of their own."""
        beam, count = loop.live.totals.shape[1], len(task.eos_ids)
        at, place = best.origins // (beam * count), best.origins % (beam * count)
        exists = best.scores > NO_HYPOTHESIS
        finished = ops.logical_and(exists, finished)
        lengths = ops.where(exists, at + ops.cast(finished, "int32"), 0)
        path = trace(loop, group * beam + place // count, at, self.groups)
        decoded = read(task, loop.history, lengths, finished, path=path, groups=self.groups)
        is_end = ops.arange(task.max_length, dtype="int32") == ops.where(finished, at, -1)[..., None]
        ends = ops.take(ops.convert_to_tensor(task.eos_ids, dtype="int32"), place % count, axis=0)
        return decoded._replace(
            tokens=ops.where(is_end, ends[..., None], decoded.tokens),
            scores=best.scores,
            log_probabilities=ops.where(is_end, best.log_probabilities[..., None], decoded.log_probabilities),
        )

    def penalty(self, length: Tensor | int) -> Tensor:
        """Return the divisor of a sum of log-probabilities at `length`, float32."""
        length = ops.cast(length, "float32")
        base = (5.0 + length) / 6.0 if self.length_penalty_kind == "gnmt" else length
        return ops.power(base, self.length_penalty)

    def score(self, totals: Tensor, length: Tensor | int, coverage: Nest, source: Nest) -> Tensor:
        """Return the scores of hypotheses, float32 `(searches, hypotheses)`; `LOG_ZERO` where there is none.

        Args:
            totals: float32 `(searches, hypotheses)`, the sums of their log-probabilities.
            length: How many of their tokens are scored, a scalar or `(searches, 1)`.
            coverage: float32 `(searches, hypotheses, source_time)`, the sums of their alignments, or ().
            source: bool `(searches, source_time)`, the source positions that count, or ().
        """
        scores = totals / self.penalty(length)
        if self.coverage_penalty:
            logarithms = ops.log(ops.clip(coverage, COVERAGE_FLOOR, 1.0))  # (searches, hypotheses, source_time)
            logarithms = ops.where(source[:, None], logarithms, 0.0)
            scores = scores + self.coverage_penalty * ops.sum(logarithms, axis=-1)
        return ops.where(totals > NO_HYPOTHESIS, scores, LOG_ZERO)

    def reachable(self, totals: Tensor, length: Tensor | int, longest: Tensor | int) -> Tensor:
        """Return the best score that live hypotheses can still reach; without the coverage penalty.

        Args:
            totals: float32 `(searches, 1)`, the sums of their log-probabilities.
            length: How many of their tokens are scored, a scalar or `(searches, 1)`.
            longest: How many are at `max_length`.
        """
        if self.early_stopping == "estimate":
            return totals / self.penalty(length)
        # A sum only falls, so the bound is the present sum at the length with the largest divisor.
        return totals / ops.maximum(self.penalty(length + 1), self.penalty(longest))

    def _source(self, task: Task, start: Start) -> Tensor:
        """Return the positions of `source_mask` by search, bool `(searches, source_time)`; none without a mask."""
        if task.source_mask is None:
            return ops.zeros((start.batch * self.groups, start.source_time), dtype="bool")
        mask = ops.convert_to_tensor(task.source_mask)
        if "float" in keras.backend.standardize_dtype(mask.dtype):
            raise ValueError(f"source_mask must be bool, but is {keras.backend.standardize_dtype(mask.dtype)}.")
        mask = ops.cast(mask, "bool")
        expected = (start.batch, start.source_time)
        if not shapes_fit(mask.shape, expected):
            raise ValueError(
                f"source_mask must be bool (batch, source_time), here {expected} as the state and the alignments have "
                f"it, but has shape {tuple(mask.shape)}. It counts the positions that the step's alignments have."
            )
        return ops.repeat(mask, self.groups, axis=0)

    def _scored(self, task: Task, length: Tensor | int) -> Tensor | int:
        """Return how many of the first `length` tokens are scored: a scalar, or `(searches, 1)`."""
        counted = task.counted(length)
        return counted if task.forced is None or task.forced.scored else ops.repeat(counted, self.groups)[:, None]

    def _done(self, task: Task, totals: Tensor, length: Tensor, ended: Ended, ends: Nest) -> Tensor | None:
        """Return which searches are done, bool `(searches,)`: all of a row together. None if only `max_length` ends."""
        done = None
        if self.early_stopping != "never":
            scored, longest = self._scored(task, length), self._scored(task, task.max_length)
            best = self.reachable(ops.max(totals, axis=1, keepdims=True), scored, longest)[:, 0]  # (searches,)
            if self.early_stopping is True:
                scores = _by_row(ended.scores, self.groups)
                worst = scores if self.groups == 1 else ops.top_k(scores, self.top_paths)[0]
                worst = ops.repeat(worst[:, self.top_paths - 1], self.groups, axis=0)
            else:
                worst = ended.scores[:, -1]
            done = ops.all(_by_row((best <= worst)[:, None], self.groups), axis=1)
        if self.patience is not None:
            enough = math.ceil(round(self.patience * self.beam_width, 6))
            enough = ops.sum(_by_row(ends[:, None], self.groups), axis=1) >= enough
            done = enough if done is None else ops.logical_or(done, enough)
        return done if done is None or self.groups == 1 else ops.repeat(done, self.groups, axis=0)


def _best(old: Ended, new: Ended, count: int) -> tuple[Ended, Tensor]:
    """Return the best `count` of both, best first, and their places in `(old, new)`; of equals `old` goes first."""
    both = Ended(*(ops.concatenate([a, b], axis=1) for a, b in zip(old, new, strict=True)))  # (searches, old + new)
    scores, best = ops.top_k(both.scores, count)
    best = ops.cast(best, "int32")
    origins, log_probabilities = take_hypotheses((both.origins, both.log_probabilities), best)
    return Ended(scores, origins, log_probabilities), best


def _by_row(values: Tensor, groups: int) -> Tensor:
    """Return `(searches, n)` as `(batch, groups * n)`."""
    if groups == 1:
        return values
    searches, count = ops.shape(values)
    return ops.reshape(values, (searches // groups, groups * count))
