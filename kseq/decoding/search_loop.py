"""The loop of every search: grow the hypotheses, collect those that end, keep those that go on.

The hypotheses of an example may be searched in groups. `searches` is batch x groups, `beam` is the number of live
hypotheses of one search, and tensors with the hypotheses first have searches x beam rows.

Where hypotheses are reordered, their tokens do not move with them. Each step records the tokens and the places in the
beam that they continue, and the answer is traced back through these places when the loop has ended. The tokens of the
live hypotheses are reordered at every step only where a constraint reads them.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from keras import ops

from kseq.backend import Tensor, while_loop
from kseq.decoding.decoding import Decoded, Nest, Options
from kseq.decoding.hypotheses import put, record, repeat_rows
from kseq.decoding.task import Carried, Predicted, Start, Task
from kseq.decoding.unmoved_state import spread_rows, take_rows


class History(NamedTuple):
    """The steps of a search, by position and place in the beam.

    Attributes:
        tokens: int32 `(max_length, searches, beam)`.
        parents: int32 `(max_length, searches, beam)`, the place of the hypothesis that each one continues; () where
            hypotheses are never reordered.
        log_probabilities: float32 `(max_length, searches, beam)`, the tokens'.
        alignments: float32 `(max_length, searches * beam, source_time)`, by parent, not by child; ()
            if the model has none.
    """

    tokens: Tensor
    parents: Nest
    log_probabilities: Tensor
    alignments: Nest


class Loop(NamedTuple):
    """The state of the loop.

    Attributes:
        position: int32 scalar, the number of tokens so far.
        last: int32 `(rows,)`, the last of them.
        carried: The states after them, of the model and the constraints.
        prefixes: int32 `(rows, max_length)`, the tokens so far, as constraints read them; () without constraints.
        history: The steps so far.
        live: The strategy's state of the hypotheses that go on.
        ended: The strategy's state of those that have ended.
    """

    position: Tensor
    last: Tensor
    carried: Carried
    prefixes: Nest
    history: History
    live: Any
    ended: Any


class Grown(NamedTuple):
    """The chosen continuations of the live hypotheses, `(searches, beam)` each.

    Attributes:
        carried: The new states, in the order of the old hypotheses.
        alignments: float32 `(rows, source_time)`, in the order of the old hypotheses, or None.
        tokens: int32, the chosen tokens.
        log_probabilities: float32, the tokens'.
        hypotheses: int32, the place of the hypothesis that each one continues; None where each continues its own.
        over: bool, True for hypotheses that ended earlier and still have a place in the beam; None if none has.
        extra: Further values that `select` computes for `collect` and `keep`.
    """

    carried: Carried
    alignments: Tensor | None
    tokens: Tensor
    log_probabilities: Tensor
    hypotheses: Tensor | None = None
    over: Tensor | None = None
    extra: Any = ()


@dataclass(frozen=True, kw_only=True)
class SearchLoop(Options):
    """Base class of searches: the loop, and the hooks by which they differ.

    Subclasses define `begin`, `select`, `collect`, `keep`, `goes_on` and `answer`.
    """

    @property
    def hypotheses(self) -> int:
        """How many hypotheses of each row are followed, in all groups together."""
        return 1

    @property
    def groups(self) -> int:
        """In how many groups of equal size they are searched."""
        return 1

    @property
    def reorders(self) -> bool:
        """Whether hypotheses may continue others, so that `select` says which."""
        return False

    def begin(self, task: Task, start: Start) -> tuple[Any, Any]:
        """Return the strategy's states before the first token: `Loop.live` and `Loop.ended`."""
        raise NotImplementedError(f"{type(self).__name__} must define begin(task, start).")

    def select(self, task: Task, loop: Loop, predicted: Predicted) -> Grown:
        """Choose the continuations, given the prediction of the next token."""
        raise NotImplementedError(f"{type(self).__name__} must define select(task, loop, predicted).")

    def collect(self, task: Task, loop: Loop, grown: Grown) -> Any:
        """Return the new `Loop.ended`, with the hypotheses that end at this step."""
        raise NotImplementedError(f"{type(self).__name__} must define collect(task, loop, grown).")

    def keep(self, task: Task, loop: Loop, grown: Grown, ended: Any) -> Any:
        """Return the new `Loop.live`."""
        raise NotImplementedError(f"{type(self).__name__} must define keep(task, loop, grown, ended).")

    def goes_on(self, loop: Loop) -> Tensor:
        """Return whether any hypothesis goes on, a bool scalar."""
        raise NotImplementedError(f"{type(self).__name__} must define goes_on(loop).")

    def answer(self, task: Task, loop: Loop) -> Decoded:
        """Return the best hypotheses of a loop that has ended."""
        raise NotImplementedError(f"{type(self).__name__} must define answer(task, loop).")

    def decode(self, task: Task, start: Start) -> Decoded:
        """Return the hypotheses of a task."""
        loop = while_loop(
            lambda loop: self.unfinished(task, loop),
            lambda loop: self.advance(task, loop),
            self.start_loop(task, start),
        )
        return self.answer(task, loop)

    def unfinished(self, task: Task, loop: Loop) -> Tensor:
        """Return whether there is a step to take, a bool scalar."""
        return ops.logical_and(loop.position < task.max_length, self.goes_on(loop))

    def start_loop(self, task: Task, start: Start) -> Loop:
        """Return the state before the first step."""
        rows = start.batch * self.hypotheses
        shape = (task.max_length, start.batch * self.groups, self.hypotheses // self.groups)
        live, ended = self.begin(task, start)
        return Loop(
            position=ops.zeros((), dtype="int32"),
            last=ops.repeat(start.last, self.hypotheses, axis=0),
            carried=(spread_rows if self.reorders else repeat_rows)(start.carried, self.hypotheses),
            prefixes=ops.full((rows, task.max_length), task.pad_id, dtype="int32") if task.constraints else (),
            history=History(
                tokens=ops.zeros(shape, dtype="int32"),
                parents=ops.zeros(shape, dtype="int32") if self.reorders else (),
                log_probabilities=ops.zeros(shape, dtype="float32"),
                alignments=()
                if start.source_time is None
                else ops.zeros((task.max_length, rows, start.source_time), dtype="float32"),
            ),
            live=live,
            ended=ended,
        )

    def advance(self, task: Task, loop: Loop) -> Loop:
        """Return the state after one more step."""
        grown = self.grow(task, loop)
        ended = self.collect(task, loop, grown)
        return _keep(task, loop, grown, live=self.keep(task, loop, grown, ended), ended=ended)

    def grow(self, task: Task, loop: Loop) -> Grown:
        """Predict the next token of every live hypothesis, and choose the continuations."""
        return self.select(task, loop, task.predict(loop.prefixes, loop.last, loop.position, loop.carried))


def _keep(task: Task, loop: Loop, grown: Grown, *, live: Any, ended: Any) -> Loop:
    """Record the step, and go on with the chosen continuations."""
    following = written = grown.tokens
    if grown.over is not None:
        following = ops.where(grown.over, task.eos_ids[0], grown.tokens)  # fed to the model, which may know no pad
        written = ops.where(grown.over, task.pad_id, grown.tokens)
    carried, prefixes = grown.carried, loop.prefixes
    if grown.hypotheses is not None:
        carried = take_rows(carried, grown.hypotheses)
    if task.constraints:
        if grown.hypotheses is not None:
            prefixes = take_rows(prefixes, grown.hypotheses)
        prefixes = put(prefixes, loop.position, ops.reshape(written, (-1,)))
    return Loop(
        position=loop.position + 1,
        last=ops.reshape(following, (-1,)),
        carried=carried,
        prefixes=prefixes,
        history=_recorded(loop, grown),
        live=live,
        ended=ended,
    )


def _recorded(loop: Loop, grown: Grown) -> History:
    """Return the history with this step."""
    history, position = loop.history, loop.position
    return History(
        tokens=record(history.tokens, position, grown.tokens),
        parents=() if grown.hypotheses is None else record(history.parents, position, grown.hypotheses),
        log_probabilities=record(history.log_probabilities, position, grown.log_probabilities),
        alignments=() if grown.alignments is None else record(history.alignments, position, grown.alignments),
    )
