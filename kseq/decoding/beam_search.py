"""Beam search."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Unpack

import keras
from keras import ops

from kseq.backend import Tensor, while_loop
from kseq.decoding.decoding import LOG_ZERO, Constraint, Decoded, Nest
from kseq.decoding.hypotheses import (
    NO_HYPOTHESIS,
    Finished,
    Grown,
    Live,
    Loop,
    Written,
    append,
    best_finished,
    record,
    repeat_rows,
    take_hypotheses,
    take_rows,
)
from kseq.decoding.strategy import Call, Strategy
from kseq.decoding.task import Predicted, Start, Task

COVERAGE_FLOOR = 1e-9  # The least coverage of a source position: the penalty stays finite where none looked at it.

EarlyStopping = bool | Literal["never", "estimate"]


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, kw_only=True)
class BeamSearch(Strategy):
    """Beam search as an object: `beam_search` with its options, which are explained there.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> decoded = BeamSearch(beam_width=8, top_paths=3)(step, state, bos_id=1, eos_id=2, max_length=9)
    """

    beam_width: int = 4
    top_paths: int = 1
    length_penalty: float = 0.0
    length_penalty_kind: str = "gnmt"
    coverage_penalty: float = 0.0
    early_stopping: EarlyStopping = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beam_width < 1:
            raise ValueError(f"beam_width must be 1 or more, but got beam_width={self.beam_width}.")
        if not 1 <= self.top_paths <= self.beam_width:
            raise ValueError(
                f"top_paths must be between 1 and beam_width, but got top_paths={self.top_paths} and "
                f"beam_width={self.beam_width}. Widen the beam, or ask for fewer hypotheses."
            )
        if self.length_penalty_kind not in ("gnmt", "average"):
            raise ValueError(
                f"length_penalty_kind must be 'gnmt' or 'average', but got {self.length_penalty_kind!r}: 'gnmt' "
                "divides by ((5 + length) / 6) ** length_penalty, 'average' by length ** length_penalty."
            )
        if self.coverage_penalty < 0:
            raise ValueError(f"coverage_penalty must be 0 or more, but got {self.coverage_penalty}.")
        if self.early_stopping not in (True, False, "never", "estimate"):
            raise ValueError(
                f"early_stopping must be True, False, 'never' or 'estimate', but got {self.early_stopping!r}."
            )

    def decode(self, task: Task, start: Start) -> Decoded:
        """Search."""
        loop = while_loop(
            lambda loop: ops.logical_and(loop.position < task.max_length, ops.any(loop.live.totals > NO_HYPOTHESIS)),
            lambda loop: _advance(self, task, loop),
            _start(self, task, start),
        )
        return _decoded(self, task, loop)

    def penalty(self, length: Tensor | int) -> Tensor:
        """Return what a sum of log-probabilities is divided by at `length`, float32."""
        length = ops.cast(length, "float32")
        base = (5.0 + length) / 6.0 if self.length_penalty_kind == "gnmt" else length
        return ops.power(base, self.length_penalty)

    def score(self, totals: Tensor, length: Tensor | int, coverage: Nest, source: Nest) -> Tensor:
        """Return what hypotheses are ranked by, float32 `(batch, hypotheses)`; `LOG_ZERO` where there is none."""
        scores = totals / self.penalty(length)
        if self.coverage_penalty:
            logarithms = ops.log(ops.clip(coverage, COVERAGE_FLOOR, 1.0))  # (batch, hypotheses, source_time)
            logarithms = ops.where(source[:, None], logarithms, 0.0)
            scores = scores + self.coverage_penalty * ops.sum(logarithms, axis=-1)
        return ops.where(totals > NO_HYPOTHESIS, scores, LOG_ZERO)

    def reachable(self, totals: Tensor, length: Tensor, max_length: int) -> Tensor:
        """Return the best score that live hypotheses of `length` tokens can still reach; the coverage penalty aside."""
        if self.early_stopping == "estimate":
            return totals / self.penalty(length)
        # Sums only fall, so the best is that they stay, at the length that divides them by most.
        return totals / ops.maximum(self.penalty(length + 1), self.penalty(max_length))


def beam_search(
    step: Callable,
    state: Nest,
    *,
    beam_width: int = 4,
    top_paths: int = 1,
    length_penalty: float = 0.0,
    length_penalty_kind: str = "gnmt",
    coverage_penalty: float = 0.0,
    early_stopping: EarlyStopping = True,
    min_length: int = 0,
    constraints: tuple[Constraint, ...] = (),
    **call: Unpack[Call],
) -> Decoded:
    """Keep the `beam_width` most probable prefixes at every step, and return the best hypotheses that ended.

    At every step the live hypotheses, `beam_width` per row, are continued by every token. The best `beam_width`
    continuations other than eos go on. A hypothesis may end in eos if its sum is within that beam, that is, not below
    the last continuation that goes on; the best `beam_width` that have ended are kept, unchanged. So a beam of width 1
    without penalties is greedy search, and a beam wide enough to drop nothing is exhaustive search.

    The score is `sum / penalty + coverage`, in nats:

    - sum of the log-probabilities, eos included;
    - penalty, with `length` counting eos: `((5 + length) / 6) ** length_penalty` for "gnmt", `length ** length_penalty`
      for "average". Positive favours long hypotheses, negative short ones;
    - coverage: `coverage_penalty * sum_j log(min(sum_i a_ij, 1))`, a_ij being the weight of source position j at output
      step i. It needs a step that returns alignments. It counts the positions that any hypothesis of the row has given
      a weight so far: attention gives exactly zero to padding, and to it alone. A sum below 1e-9 counts as 1e-9.

    Live hypotheses all have one length, and are ranked by their sums alone. What reaches `max_length` without eos is
    ranked with the others, by the same score. Of equals the one that ended first is taken, then the lower (hypothesis,
    token).

    `early_stopping` says when a row is done; the loop ends when every row is. A sum only falls, so a live hypothesis
    reaches at best its sum divided by the largest penalty up to `max_length`; None but "estimate" changes the answer:

    - True: when no live hypothesis can still come among the `top_paths` best;
    - False: when none can still come among the `beam_width` that are kept;
    - "never": at `max_length`, or when nothing is alive;
    - "estimate": as False, but judging live hypotheses by their present length. With a positive `length_penalty` the
      exact bound is loose, and this one stops much earlier; a long hypothesis that would have won may be missed.

    To stop as soon as `beam_width` hypotheses have ended, which elsewhere is called early stopping, is not offered: it
    misses better ones that are still alive.

    Args:
        step: The model, `step(tokens, state[, memory]) -> (logits, state[, alignments])`; see
            `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first, at least one.
        beam_width: How many hypotheses are followed, and how many that ended are kept.
        top_paths: How many hypotheses are returned.
        length_penalty: Exponent of the length penalty; 0 for none.
        length_penalty_kind: "gnmt" or "average".
        coverage_penalty: Weight of the coverage penalty; 0 for none.
        early_stopping: When a row is done: True, False, "never" or "estimate".
        min_length: The fewest tokens of a hypothesis, eos included.
        constraints: What further forbids or penalises tokens, applied in this order.
        **call: `bos_id`, `eos_id`, `max_length`, and what else a `Strategy` is called with.

    Returns:
        `Decoded` with `top_paths` hypotheses per row, best first. Where there are fewer, the rest has length 0 and
        score -1e30.

    Raises:
        ValueError: If an option, a length or a token is out of range, the state is empty, the step returns other than
            said, or a coverage penalty is asked for and the step returns no alignments.

    Example:
        >>> table = ops.log(np.array([[0, 0.6, 0.4, 0], [0, 0.3, 0.3, 0.4], [0, 0, 0, 1], [0, 0, 0, 1]]) + 1e-9)
        >>> step = lambda tokens, state: (ops.take(table, tokens, axis=0), state)
        >>> decoded = beam_search(step, np.zeros((1, 1)), bos_id=0, eos_id=3, max_length=4, beam_width=2)
        >>> decoded.tokens, ops.exp(decoded.scores)  # greedy begins with 1, and reaches 0.6 * 0.4
        ([[[2, 3, 0, 0]]], [[0.4]])

    References:
        - Y. Wu et al., "Google's neural machine translation system", 2016 (the penalties).
        - C. Meister, T. Vieira, R. Cotterell, "Best-first beam search", 2020 (when to stop).
    """
    strategy = BeamSearch(
        beam_width=beam_width,
        top_paths=top_paths,
        length_penalty=length_penalty,
        length_penalty_kind=length_penalty_kind,
        coverage_penalty=coverage_penalty,
        early_stopping=early_stopping,
        min_length=min_length,
        constraints=constraints,
    )
    return strategy(step, state, **call)


def _start(search: BeamSearch, task: Task, start: Start) -> Loop:
    if search.coverage_penalty and start.source_time is None:
        raise ValueError(
            f"coverage_penalty={search.coverage_penalty} needs a step that returns (logits, state, alignments), but it "
            "returned (logits, state). Return the attention weights (rows, source_time), or use coverage_penalty=0."
        )
    batch, beam, source_time = start.batch, search.beam_width, start.source_time
    shape = (batch, beam, task.max_length)
    written = Written(
        tokens=ops.full(shape, task.pad_id, dtype="int32"),
        slots=ops.zeros(shape, dtype="int32"),
        log_probabilities=ops.zeros(shape, dtype="float32"),
    )
    # One hypothesis is alive: equal ones would fill the beam with copies.
    totals = ops.where(ops.arange(beam) == 0, 0.0, LOG_ZERO)
    totals = ops.broadcast_to(ops.cast(totals, "float32"), (batch, beam))
    covers = bool(search.coverage_penalty)
    return Loop(
        position=ops.zeros((), dtype="int32"),
        last=repeat_rows(start.last, beam),
        carried=repeat_rows(start.carried, beam),
        live=Live(written, totals, ops.zeros((batch, beam, source_time), dtype="float32") if covers else ()),
        finished=Finished(
            written,
            lengths=ops.zeros((batch, beam), dtype="int32"),
            scores=ops.full((batch, beam), LOG_ZERO, dtype="float32"),
            ended=ops.zeros((batch, beam), dtype="bool"),
        ),
        alignments=()
        if source_time is None
        else ops.zeros((task.max_length, batch * beam, source_time), dtype="float32"),
        source=ops.zeros((batch, source_time), dtype="bool") if covers else (),
    )


def _advance(search: BeamSearch, task: Task, loop: Loop) -> Loop:
    grown = _grow(search, task, loop)
    finished = _collect_finished(search, task, loop, grown)
    return _keep_alive(search, task, loop, grown, finished)


def _grow(search: BeamSearch, task: Task, loop: Loop) -> Grown:
    """Continue the live hypotheses by every token, and find the best continuations."""
    batch, beam = ops.shape(loop.live.totals)
    tokens = ops.reshape(loop.live.written.tokens, (batch * beam, task.max_length))
    predicted = task.predict(tokens, loop.last, loop.position, loop.carried)
    vocabulary = predicted.log_probabilities.shape[-1]
    totals = ops.reshape(loop.live.totals, (batch * beam, 1)) + predicted.log_probabilities  # (rows, vocabulary)
    ends = ops.reshape(totals[:, task.eos_ids[0]], (batch, beam))
    is_eos = ops.arange(vocabulary, dtype="int32") == task.eos_ids[0]
    kept, hypotheses, tokens = _best(ops.where(is_eos, LOG_ZERO, totals), beam)  # (batch, beam) each
    # An end must be within the beam as a continuation must: not below the last that goes on, whose index breaks ties.
    end_index = ops.arange(beam, dtype="int32") * vocabulary + task.eos_ids[0]  # (beam,)
    last_index = hypotheses[:, -1:] * vocabulary + tokens[:, -1:]  # (batch, 1)
    before = ops.logical_or(ends > kept[:, -1:], ops.logical_and(ends == kept[:, -1:], end_index < last_index))
    return Grown(
        carried=predicted.carried,
        hypotheses=hypotheses,
        tokens=tokens,
        totals=kept,
        ends=ops.where(before, ends, LOG_ZERO),
        **_look(search, loop, predicted),
    )


def _look(search: BeamSearch, loop: Loop, predicted: Predicted) -> dict[str, Nest]:
    """Record this step's alignments."""
    if predicted.alignments is None:
        return {"coverage": (), "alignments": (), "source": ()}
    alignments = record(loop.alignments, loop.position, predicted.alignments)
    if not search.coverage_penalty:
        return {"coverage": (), "alignments": alignments, "source": ()}
    batch, beam = ops.shape(loop.live.totals)
    weights = ops.reshape(predicted.alignments, (batch, beam, ops.shape(predicted.alignments)[1]))
    source = ops.logical_or(loop.source, ops.any(weights > 0, axis=1))
    return {"coverage": loop.live.coverage + weights, "alignments": alignments, "source": source}


def _best(totals: Tensor, beam: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the `beam` largest of `(batch * beam, vocabulary)` per batch row: totals, hypotheses and tokens.

    First those of each hypothesis, then those of all: along one axis of beam * vocabulary XLA is 20 times slower on a
    CPU. Both prefer the lower index among equals, so that the lower (hypothesis, token) wins.
    """
    count = min(beam, totals.shape[-1])
    totals, tokens = ops.top_k(totals, count)  # (batch * beam, count)
    flat = (ops.shape(totals)[0] // beam, beam * count)
    totals, index = ops.top_k(ops.reshape(totals, flat), beam)  # (batch, beam)
    index = ops.cast(index, "int32")
    tokens = ops.take_along_axis(ops.cast(ops.reshape(tokens, flat), "int32"), index, axis=1)
    return totals, index // count, tokens


def _collect_finished(search: BeamSearch, task: Task, loop: Loop, grown: Grown) -> Finished:
    """Merge the hypotheses that end at this step into the best that have ended."""
    batch, beam = ops.shape(grown.ends)
    slots = ops.broadcast_to(ops.arange(beam, dtype="int32"), (batch, beam))
    written = append(
        loop.live.written, loop.position, ops.full_like(slots, task.eos_ids[0]), slots, grown.ends - loop.live.totals
    )
    length = loop.position + 1
    scores = search.score(grown.ends, length, grown.coverage, grown.source)
    new = Finished(
        written,
        lengths=ops.broadcast_to(length, (batch, beam)),
        scores=scores,
        ended=ops.ones((batch, beam), dtype="bool"),
    )
    return best_finished(loop.finished, new, beam)


def _keep_alive(search: BeamSearch, task: Task, loop: Loop, grown: Grown, finished: Finished) -> Loop:
    """Go on with the best continuations, unless the row is done."""
    batch, beam = ops.shape(grown.totals)
    length = loop.position + 1
    before, totals_before = take_hypotheses((loop.live.written, loop.live.totals), grown.hypotheses)
    written = append(before, loop.position, grown.tokens, grown.hypotheses, grown.totals - totals_before)
    totals = grown.totals
    if search.early_stopping != "never":
        worst = finished.scores[:, (search.top_paths if search.early_stopping is True else beam) - 1]  # (batch,)
        done = search.reachable(totals[:, 0], length, task.max_length) <= worst
        # A row that is done has nothing alive, so that nothing can enter its answer while the others go on.
        totals = ops.where(done[:, None], LOG_ZERO, totals)
    return Loop(
        position=length,
        last=ops.reshape(grown.tokens, (batch * beam,)),
        carried=take_rows(grown.carried, grown.hypotheses),
        live=Live(written, totals, take_hypotheses(grown.coverage, grown.hypotheses)),
        finished=finished,
        alignments=grown.alignments,
        source=grown.source,
    )


def _decoded(search: BeamSearch, task: Task, loop: Loop) -> Decoded:
    """Rank what reached `max_length` with what ended, and read the alignments back."""
    batch, beam = ops.shape(loop.live.totals)
    unfinished = Finished(
        loop.live.written,
        lengths=ops.broadcast_to(loop.position, (batch, beam)),
        scores=search.score(loop.live.totals, loop.position, loop.live.coverage, loop.source),
        ended=ops.zeros((batch, beam), dtype="bool"),
    )
    best = best_finished(loop.finished, unfinished, search.top_paths)
    exists = best.scores > NO_HYPOTHESIS  # (batch, top_paths)
    lengths = ops.where(exists, best.lengths, 0)
    real = ops.arange(task.max_length, dtype="int32") < lengths[..., None]  # (batch, top_paths, max_length)
    return Decoded(
        tokens=ops.where(real, best.written.tokens, task.pad_id),
        lengths=lengths,
        scores=best.scores,
        alignments=None if isinstance(loop.alignments, tuple) else _alignments(loop, best.written.slots, real),
        finished=ops.logical_and(exists, best.ended),
        log_probabilities=ops.where(real, best.written.log_probabilities, 0.0),
    )


def _alignments(loop: Loop, slots: Tensor, real: Tensor) -> Tensor:
    """Return float32 `(batch, top_paths, max_length, source_time)`, read at the `slots` of the hypotheses."""
    batch, beam = ops.shape(loop.live.totals)
    max_length, _, source_time = ops.shape(loop.alignments)
    alignments = ops.reshape(loop.alignments, (max_length, batch, beam, source_time))
    alignments = ops.transpose(alignments, (1, 2, 0, 3))  # (batch, beam, max_length, source_time)
    return ops.where(real[..., None], ops.take_along_axis(alignments, slots[..., None], axis=1), 0.0)
