"""The loop of strategies that follow one hypothesis, or several that know nothing of each other."""

from dataclasses import dataclass
from typing import NamedTuple

from keras import ops

from kseq.backend import Tensor, while_loop
from kseq.decoding.decoding import Decoded, Nest
from kseq.decoding.hypotheses import put, record, repeat_rows, take_hypotheses
from kseq.decoding.strategy import Strategy
from kseq.decoding.task import Carried, Start, Task


class Writing(NamedTuple):
    """The state of the loop; `rows` is batch x hypotheses.

    Attributes:
        position: int32 scalar, tokens written so far.
        last: int32 `(rows,)`, the last of them.
        carried: The states.
        choice: What the strategy chooses with, rows first.
        done: bool `(rows,)`, which have ended.
        tokens: int32 `(rows, max_length)`, pad after the end.
        log_probabilities: float32 `(rows, max_length)`, zero after the end.
        lengths: int32 `(rows,)`.
        alignments: float32 `(max_length, rows, source_time)`, or ().
    """

    position: Tensor
    last: Tensor
    carried: Carried
    choice: Nest
    done: Tensor
    tokens: Tensor
    log_probabilities: Tensor
    lengths: Tensor
    alignments: Nest


@dataclass(frozen=True, kw_only=True)
class Writer(Strategy):
    """Base class of strategies that choose a token for each hypothesis by itself.

    Subclasses define `choose`, and `hypotheses` and `choice` if they need them.
    """

    @property
    def hypotheses(self) -> int:
        """How many hypotheses each row has."""
        return 1

    def choice(self, task: Task, start: Start) -> Nest:
        """Return what tokens are chosen with, such as the rows' random keys: a nest of tensors, rows first."""
        del task, start
        return ()

    def choose(self, log_probabilities: Tensor, position: Tensor, choice: Nest) -> Tensor:
        """Return the next token of each hypothesis, int32 `(rows,)`.

        Args:
            log_probabilities: float32 `(rows, vocabulary)`, constrained.
            position: int32 scalar, the number of tokens before it.
            choice: What `choice` returned.
        """
        raise NotImplementedError(f"{type(self).__name__} must define choose(log_probabilities, position, choice).")

    def decode(self, task: Task, start: Start) -> Decoded:
        """Write until every hypothesis has ended."""
        loop = while_loop(
            lambda loop: self.goes_on(task, loop), lambda loop: self.write(task, loop), self.begin(task, start)
        )
        return self.decoded(loop)

    def begin(self, task: Task, start: Start) -> Writing:
        """Return the loop's state before the first token."""
        rows = start.batch * self.hypotheses
        last, carried = repeat_rows((start.last, start.carried), self.hypotheses)
        return Writing(
            position=ops.zeros((), dtype="int32"),
            last=last,
            carried=carried,
            choice=self.choice(task, start),
            done=ops.zeros((rows,), dtype="bool"),
            tokens=ops.full((rows, task.max_length), task.pad_id, dtype="int32"),
            log_probabilities=ops.zeros((rows, task.max_length), dtype="float32"),
            lengths=ops.zeros((rows,), dtype="int32"),
            alignments=()
            if start.source_time is None
            else ops.zeros((task.max_length, rows, start.source_time), dtype="float32"),
        )

    def goes_on(self, task: Task, loop: Writing) -> Tensor:
        """Return whether there is a token to write, a bool scalar."""
        return ops.logical_and(loop.position < task.max_length, ops.logical_not(ops.all(loop.done)))

    def write(self, task: Task, loop: Writing) -> Writing:
        """Write one token of each hypothesis."""
        predicted = task.predict(loop.tokens, loop.last, loop.position, loop.carried)
        token = self.choose(predicted.log_probabilities, loop.position, loop.choice)  # (rows,)
        log_probability = ops.take_along_axis(predicted.log_probabilities, token[:, None], axis=1)[:, 0]
        alignments = loop.alignments
        if predicted.alignments is not None:
            weights = ops.where(loop.done[:, None], 0.0, predicted.alignments)
            alignments = record(alignments, loop.position, weights)
        return Writing(
            position=loop.position + 1,
            last=ops.where(loop.done, task.eos_ids[0], token),  # pad need not be in the vocabulary
            carried=predicted.carried,
            choice=loop.choice,
            done=ops.logical_or(loop.done, task.is_end(token)),
            tokens=put(loop.tokens, loop.position, ops.where(loop.done, task.pad_id, token)),
            log_probabilities=put(loop.log_probabilities, loop.position, ops.where(loop.done, 0.0, log_probability)),
            lengths=loop.lengths + ops.cast(ops.logical_not(loop.done), "int32"),
            alignments=alignments,
        )

    def decoded(self, loop: Writing) -> Decoded:
        """Return what was written, best first."""

        def by_batch(values: Tensor) -> Tensor:  # (batch, hypotheses, ...)
            rows, *rest = ops.shape(values)
            return ops.reshape(values, (rows // self.hypotheses, self.hypotheses, *rest))

        decoded = Decoded(
            tokens=by_batch(loop.tokens),
            lengths=by_batch(loop.lengths),
            scores=by_batch(ops.sum(loop.log_probabilities, axis=-1)),
            alignments=()
            if isinstance(loop.alignments, tuple)
            else by_batch(ops.transpose(loop.alignments, (1, 0, 2))),
            finished=by_batch(loop.done),
            log_probabilities=by_batch(loop.log_probabilities),
        )
        if self.hypotheses > 1:
            _, best = ops.top_k(decoded.scores, self.hypotheses)
            decoded = take_hypotheses(decoded, ops.cast(best, "int32"))
        return decoded._replace(alignments=None) if isinstance(loop.alignments, tuple) else decoded
