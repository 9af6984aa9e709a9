"""Hypotheses read from the history of a search."""

from typing import NamedTuple

from keras import ops

from kseq.backend import Tensor, while_loop
from kseq.decoding.decoding import Decoded
from kseq.decoding.search_loop import History, Loop
from kseq.decoding.task import Task


class Path(NamedTuple):
    """The places in the beam that hypotheses went through, int32 `(batch, n, max_length)` each.

    Attributes:
        before: The place that each token was predicted from.
        after: The place that the hypothesis had with the token.
    """

    before: Tensor
    after: Tensor


def trace(loop: Loop, place: Tensor, at: Tensor, groups: int) -> Path:
    """Follow hypotheses back to their first token.

    Args:
        loop: The loop that has ended.
        place: int32 `(batch, n)`, where in the row's whole beam each hypothesis was last.
        at: int32 `(batch, n)`, how many tokens it had there.
        groups: In how many groups the row was searched.
    """
    parents = _by_row(loop.history.parents, groups)  # (max_length, batch, groups * beam)
    positions = ops.arange(parents.shape[0], dtype="int32")[:, None, None]

    def back(state: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        position, place, after = state
        parent = ops.take_along_axis(ops.take(parents, position, axis=0), place, axis=1)
        if groups > 1:
            beam = parents.shape[2] // groups
            parent = parent + place // beam * beam
        after = ops.where(positions == position, place, after)
        return position - 1, ops.where(position < at, parent, place), after

    start = (loop.position - 1, place, ops.zeros((parents.shape[0], *ops.shape(place)), dtype="int32"))
    _, first, after = while_loop(lambda state: state[0] >= 0, back, start)
    before = ops.concatenate([first[None], after[:-1]], axis=0)
    return Path(*(ops.transpose(x, (1, 2, 0)) for x in (before, after)))


def read(
    task: Task, history: History, lengths: Tensor, finished: Tensor, *, path: Path | None = None, groups: int = 1
) -> Decoded:
    """Return hypotheses, each with the sum of its log-probabilities as its score.

    Args:
        task: The task.
        history: The history of the search.
        lengths: int32 `(batch, n)`, 0 where there is no hypothesis.
        finished: bool `(batch, n)`.
        path: The places that the hypotheses went through; None if each stayed in its own.
        groups: In how many groups each row was searched.
    """
    real = ops.arange(task.max_length, dtype="int32") < lengths[..., None]  # (batch, n, max_length)

    def along(values: Tensor, places: Tensor | None) -> Tensor:
        """Return `(max_length, batch, places, ...)` at the places of the hypotheses, `(batch, n, max_length, ...)`."""
        values = ops.transpose(values, (1, 2, 0, *range(3, len(values.shape))))
        if places is None:
            return values
        index = ops.reshape(places, (*ops.shape(places), *([1] * (len(values.shape) - 3))))
        return ops.take_along_axis(values, index, axis=1)

    alignments = None
    if not isinstance(history.alignments, tuple):
        max_length, rows, source_time = ops.shape(history.alignments)
        width = history.tokens.shape[2] * groups
        alignments = ops.reshape(history.alignments, (max_length, rows // width, width, source_time))
        alignments = ops.where(real[..., None], along(alignments, None if path is None else path.before), 0.0)
    tokens, log_probabilities = (
        along(_by_row(x, groups), None if path is None else path.after)
        for x in (history.tokens, history.log_probabilities)
    )
    log_probabilities = ops.where(real, log_probabilities, 0.0)
    return Decoded(
        tokens=ops.where(real, tokens, task.pad_id),
        lengths=lengths,
        scores=ops.sum(log_probabilities, axis=-1),
        alignments=alignments,
        finished=finished,
        log_probabilities=log_probabilities,
    )


def _by_row(values: Tensor, groups: int) -> Tensor:
    """Return `(max_length, searches, beam)` as `(max_length, batch, groups * beam)`."""
    if groups == 1:
        return values
    max_length, searches, beam = ops.shape(values)
    return ops.reshape(values, (max_length, searches // groups, groups * beam))
