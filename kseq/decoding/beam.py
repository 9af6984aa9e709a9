"""The loop of beam searches: grow, collect what has ended, keep alive what goes on.

A row's beam may be searched in groups; each is a search of its own, but for what `RankedSearch.select` does and for
when the row is done. Rows of tensors are batch x groups x beam.
"""

import math

import keras
from keras import ops

from kseq.backend import Tensor, while_loop
from kseq.decoding.decoding import LOG_ZERO, Decoded, Nest
from kseq.decoding.hypotheses import (
    NO_HYPOTHESIS,
    Finished,
    Grown,
    Live,
    Loop,
    Written,
    append,
    best_finished,
    read_alignments,
    record,
    repeat_rows,
    take_hypotheses,
)
from kseq.decoding.in_place import spread_rows, take_rows
from kseq.decoding.ranking import RankedSearch
from kseq.decoding.task import Predicted, Start, Task


def search_with(search: RankedSearch, task: Task, start: Start) -> Decoded:
    """Return the best hypotheses of a beam search; see `beam_search`."""
    loop = while_loop(
        lambda loop: ops.logical_and(loop.position < task.max_length, ops.any(loop.live.totals > NO_HYPOTHESIS)),
        lambda loop: _advance(search, task, loop),
        _start(search, task, start),
    )
    return _decoded(search, task, loop)


def _start(search: RankedSearch, task: Task, start: Start) -> Loop:
    if search.coverage_penalty and start.source_time is None:
        raise ValueError(
            f"coverage_penalty={search.coverage_penalty} needs a step that returns (logits, state, alignments), but it "
            "returned (logits, state). Return the attention weights (rows, source_time), or use coverage_penalty=0."
        )
    covers = bool(search.coverage_penalty)
    searches, beam, source_time = start.batch * search.groups, search.beam_width // search.groups, start.source_time
    shape = (searches, beam, task.max_length)
    written = Written(
        tokens=ops.full(shape, task.pad_id, dtype="int32"),
        slots=ops.zeros(shape, dtype="int32"),
        log_probabilities=ops.zeros(shape, dtype="float32"),
    )
    # One hypothesis is alive: equal ones would fill the beam with copies.
    totals = ops.where(ops.arange(beam) == 0, 0.0, LOG_ZERO)
    totals = ops.broadcast_to(ops.cast(totals, "float32"), (searches, beam))
    return Loop(
        position=ops.zeros((), dtype="int32"),
        last=repeat_rows(start.last, search.beam_width),
        carried=spread_rows(start.carried, search.beam_width),
        live=Live(written, totals, ops.zeros((searches, beam, source_time), dtype="float32") if covers else ()),
        finished=Finished(
            written,
            lengths=ops.zeros((searches, beam), dtype="int32"),
            scores=ops.full((searches, beam), LOG_ZERO, dtype="float32"),
            ended=ops.zeros((searches, beam), dtype="bool"),
        ),
        alignments=()
        if source_time is None
        else ops.zeros((task.max_length, searches * beam, source_time), dtype="float32"),
        source=_source(search, task, start) if covers else (),
        ends=() if search.patience is None else ops.zeros((searches,), dtype="int32"),
    )


def _source(search: RankedSearch, task: Task, start: Start) -> Tensor:
    """Return the source positions that coverage counts, bool `(searches, source_time)`: none if that is found out."""
    if task.source_mask is None:
        return ops.zeros((start.batch * search.groups, start.source_time), dtype="bool")
    mask = ops.cast(ops.convert_to_tensor(task.source_mask), "bool")
    expected = (start.batch, start.source_time)
    known = [(a, b) for a, b in zip(mask.shape, expected, strict=False) if isinstance(a, int) and isinstance(b, int)]
    if len(mask.shape) != 2 or any(a != b for a, b in known):
        raise ValueError(
            f"source_mask must be bool (batch, source_time), here {expected} as the state and the alignments have it, "
            f"but has shape {tuple(mask.shape)}. It counts the positions that the step's alignments have."
        )
    return ops.repeat(mask, search.groups, axis=0)


def _advance(search: RankedSearch, task: Task, loop: Loop) -> Loop:
    grown = _grow(search, task, loop)
    finished = _collect_finished(search, task, loop, grown)
    return _keep_alive(search, task, loop, grown, finished)


def _grow(search: RankedSearch, task: Task, loop: Loop) -> Grown:
    """Continue the live hypotheses by every token, and find the best continuations."""
    searches, beam = ops.shape(loop.live.totals)
    tokens = ops.reshape(loop.live.written.tokens, (searches * beam, task.max_length))
    predicted = task.predict(tokens, loop.last, loop.position, loop.carried)
    vocabulary = predicted.log_probabilities.shape[-1]
    continued = ops.reshape(predicted.log_probabilities, (searches, beam, vocabulary))
    selected = search.select(loop.live.totals[..., None] + continued, task.eos_ids)
    return Grown(carried=predicted.carried, selected=selected, **_look(search, task, loop, predicted))


def _look(search: RankedSearch, task: Task, loop: Loop, predicted: Predicted) -> dict[str, Nest]:
    """Record this step's alignments."""
    if predicted.alignments is None:
        return {"coverage": (), "alignments": (), "source": ()}
    alignments = record(loop.alignments, loop.position, predicted.alignments)
    if not search.coverage_penalty:
        return {"coverage": (), "alignments": alignments, "source": ()}
    searches, beam = ops.shape(loop.live.totals)
    weights = ops.reshape(predicted.alignments, (searches, beam, ops.shape(predicted.alignments)[1]))
    looked = ops.logical_or(loop.source, ops.any(weights > 0, axis=1))
    source = looked if task.source_mask is None else loop.source
    return {"coverage": loop.live.coverage + weights, "alignments": alignments, "source": source}


def _collect_finished(search: RankedSearch, task: Task, loop: Loop, grown: Grown) -> Finished:
    """Merge the hypotheses that end at this step into the best that have ended."""
    searches, beam = ops.shape(loop.live.totals)
    count = len(task.eos_ids)
    shape = (searches, beam * count)  # each hypothesis ends in each of the tokens
    written, totals, coverage = (
        keras.tree.map_structure(lambda x: x if count == 1 else ops.repeat(x, count, axis=1), nest)
        for nest in (loop.live.written, loop.live.totals, grown.coverage)
    )
    tokens = ops.broadcast_to(ops.tile(ops.convert_to_tensor(task.eos_ids, dtype="int32"), (beam,)), shape)
    slots = ops.broadcast_to(ops.arange(beam * count, dtype="int32") // count, shape)
    ends = grown.selected.ends
    new = Finished(
        append(written, loop.position, tokens, slots, ends - totals),
        lengths=ops.broadcast_to(loop.position + 1, shape),
        scores=search.score(ends, _scored(search, task, loop.position + 1), coverage, grown.source),
        ended=ops.ones(shape, dtype="bool"),
    )
    return best_finished(loop.finished, new, beam)


def _keep_alive(search: RankedSearch, task: Task, loop: Loop, grown: Grown, finished: Finished) -> Loop:
    """Go on with the best continuations, unless the row is done."""
    selected, length = grown.selected, loop.position + 1
    before, totals_before = take_hypotheses((loop.live.written, loop.live.totals), selected.hypotheses)
    written = append(before, loop.position, selected.tokens, selected.hypotheses, selected.totals - totals_before)
    ends = loop.ends
    if search.patience is not None:
        ends = ends + ops.sum(ops.cast(selected.ends > NO_HYPOTHESIS, "int32"), axis=1)
    done = _done(search, task, selected.totals, length, finished, ends)
    # A row that is done has nothing alive, so that nothing can enter its answer while the others go on.
    totals = selected.totals if done is None else ops.where(done[:, None], LOG_ZERO, selected.totals)
    return Loop(
        position=length,
        last=ops.reshape(selected.tokens, (-1,)),
        carried=take_rows(grown.carried, selected.hypotheses),
        live=Live(written, totals, take_hypotheses(grown.coverage, selected.hypotheses)),
        finished=finished,
        alignments=grown.alignments,
        source=grown.source,
        ends=ends,
    )


def _done(
    search: RankedSearch, task: Task, totals: Tensor, length: Tensor, finished: Finished, ends: Nest
) -> Tensor | None:
    """Return which searches are done, bool `(searches,)`: those of a row together. None if only `max_length` ends."""
    done = None
    if search.early_stopping != "never":
        scored, longest = _scored(search, task, length), _scored(search, task, task.max_length)
        best = search.reachable(ops.max(totals, axis=1, keepdims=True), scored, longest)[:, 0]  # (searches,)
        if search.early_stopping is True:
            kept = _by_row(search, finished.scores)
            worst = kept if search.groups == 1 else ops.top_k(kept, search.top_paths)[0]
            worst = ops.repeat(worst[:, search.top_paths - 1], search.groups, axis=0)
        else:
            worst = finished.scores[:, -1]
        done = ops.all(_by_row(search, (best <= worst)[:, None]), axis=1)
    if search.patience is not None:
        enough = ops.sum(_by_row(search, ends[:, None]), axis=1) >= math.ceil(
            round(search.patience * search.beam_width, 6)
        )
        done = enough if done is None else ops.logical_or(done, enough)
    return done if done is None or search.groups == 1 else ops.repeat(done, search.groups, axis=0)


def _decoded(search: RankedSearch, task: Task, loop: Loop) -> Decoded:
    """Rank what reached `max_length` with what ended, and read the alignments back."""
    searches, beam = ops.shape(loop.live.totals)
    unfinished = Finished(
        loop.live.written,
        lengths=ops.broadcast_to(loop.position, (searches, beam)),
        scores=search.score(loop.live.totals, _scored(search, task, loop.position), loop.live.coverage, loop.source),
        ended=ops.zeros((searches, beam), dtype="bool"),
    )
    best = best_finished(loop.finished, unfinished, search.top_paths if search.groups == 1 else beam)
    if search.groups > 1:
        best = _merge_groups(search, best)
    exists = best.scores > NO_HYPOTHESIS  # (batch, top_paths)
    lengths = ops.where(exists, best.lengths, 0)
    real = ops.arange(task.max_length, dtype="int32") < lengths[..., None]  # (batch, top_paths, max_length)
    return Decoded(
        tokens=ops.where(real, best.written.tokens, task.pad_id),
        lengths=lengths,
        scores=best.scores,
        alignments=None
        if isinstance(loop.alignments, tuple)
        else read_alignments(loop.alignments, best.written.slots, real, search.beam_width),
        finished=ops.logical_and(exists, best.ended),
        log_probabilities=ops.where(real, best.written.log_probabilities, 0.0),
    )


def _merge_groups(search: RankedSearch, best: Finished) -> Finished:
    """Return the best `top_paths` of all groups, `(batch, top_paths, ...)`; their slots are those of the whole beam."""
    beam = search.beam_width // search.groups
    group = ops.arange(ops.shape(best.scores)[0], dtype="int32") % search.groups  # (searches,)
    slots = best.written.slots + (group * beam)[:, None, None]
    best = best._replace(written=best.written._replace(slots=slots))
    best = Finished(*(keras.tree.map_structure(lambda x: _by_row(search, x), field) for field in best))
    _, index = ops.top_k(best.scores, search.top_paths)
    return take_hypotheses(best, ops.cast(index, "int32"))


def _by_row(search: RankedSearch, values: Tensor) -> Tensor:
    """Return `(searches, n, ...)` as `(batch, groups * n, ...)`."""
    if search.groups == 1:
        return values
    searches, count, *rest = ops.shape(values)
    return ops.reshape(values, (searches // search.groups, search.groups * count, *rest))


def _scored(search: RankedSearch, task: Task, length: Tensor | int) -> Tensor | int:
    """Return how many of the first `length` tokens are scored: a scalar, or `(searches, 1)`."""
    counted = task.counted(length)
    return counted if task.prompt is None or task.prompt.scored else ops.repeat(counted, search.groups)[:, None]
