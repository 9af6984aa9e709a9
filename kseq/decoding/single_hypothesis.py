"""Searches in which no hypothesis continues another: one for each row, or several that are independent."""

from dataclasses import dataclass
from typing import NamedTuple

from keras import ops

from kseq.backend import Tensor
from kseq.decoding.backtrace import read
from kseq.decoding.decoding import Decoded, Nest
from kseq.decoding.hypotheses import best_first, by_batch
from kseq.decoding.search_loop import Grown, Loop
from kseq.decoding.strategy import Strategy
from kseq.decoding.task import Predicted, Start, Task


class Ended(NamedTuple):
    """The ends of hypotheses that stay in their place when they have ended, `(batch, hypotheses)` each.

    Attributes:
        done: bool, whether the hypothesis has ended.
        lengths: int32, its tokens so far.
    """

    done: Tensor
    lengths: Tensor


def no_ends(shape: tuple) -> Ended:
    """Return the state before the first token."""
    return Ended(done=ops.zeros(shape, dtype="bool"), lengths=ops.zeros(shape, dtype="int32"))


def with_ends(ended: Ended, over: Tensor, is_end: Tensor) -> Ended:
    """Return the ends after one more token, which `is_end` marks; hypotheses that are `over` got none."""
    goes_on = ops.logical_not(over)
    return Ended(
        done=ops.logical_or(ended.done, ops.logical_and(goes_on, is_end)),
        lengths=ended.lengths + ops.cast(goes_on, "int32"),
    )


@dataclass(frozen=True, kw_only=True)
class SingleHypothesis(Strategy):
    """Base class of strategies that choose one token for each hypothesis, whatever the others do.

    Subclasses define `choose`, and `hypotheses` and `choice` if they need them.
    """

    def choice(self, task: Task, start: Start) -> Nest:
        """Return the further input of `choose`, such as the rows' random keys: a nest of tensors, rows first."""
        return ()

    def choose(self, log_probabilities: Tensor, position: Tensor, choice: Nest) -> Tensor:
        """Return the next token of each hypothesis, int32 `(rows,)`.

        Args:
            log_probabilities: float32 `(rows, vocabulary)`, constrained.
            position: int32 scalar, the number of tokens before it.
            choice: The nest that `choice` returned.
        """
        raise NotImplementedError(f"{type(self).__name__} must define choose(log_probabilities, position, choice).")

    def begin(self, task: Task, start: Start) -> tuple[Nest, Ended]:
        """Return the nest of `choice`; no hypothesis has ended."""
        return self.choice(task, start), no_ends((start.batch, self.hypotheses))

    def select(self, task: Task, loop: Loop, predicted: Predicted) -> Grown:
        """Choose one token of each hypothesis."""
        token = self.choose(predicted.log_probabilities, loop.position, loop.live)  # (rows,)
        log_probability = ops.take_along_axis(predicted.log_probabilities, token[:, None], axis=1)[:, 0]
        token, log_probability = (by_batch(x, self.hypotheses) for x in (token, log_probability))
        return Grown(predicted.carried, predicted.alignments, token, log_probability, over=loop.ended.done)

    def collect(self, task: Task, loop: Loop, grown: Grown) -> Ended:
        """Mark the hypotheses that end with this token."""
        return with_ends(loop.ended, loop.ended.done, task.is_end(grown.tokens))

    def keep(self, task: Task, loop: Loop, grown: Grown, ended: Ended) -> Nest:
        """Return the state of the strategy, which does not change."""
        return loop.live

    def goes_on(self, loop: Loop) -> Tensor:
        """Return whether any hypothesis has not ended, a bool scalar."""
        return ops.logical_not(ops.all(loop.ended.done))

    def answer(self, task: Task, loop: Loop) -> Decoded:
        """Return the hypotheses, the most probable first."""
        decoded = read(task, loop.history, loop.ended.lengths, loop.ended.done)
        return decoded if self.hypotheses == 1 else best_first(decoded, decoded.scores)
