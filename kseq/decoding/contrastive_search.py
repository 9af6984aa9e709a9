"""Contrastive search."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.checks import like, log_probabilities_of
from kseq.decoding.decoding import LOG_ZERO, Decoded, Nest, ScoredStepOutput, StepOutput
from kseq.decoding.hypotheses import NO_HYPOTHESIS, repeat_rows
from kseq.decoding.search_loop import Grown, Loop
from kseq.decoding.single_hypothesis import Ended, SingleHypothesis
from kseq.decoding.strategy import takes_options_of
from kseq.decoding.task import Carried, Start, Task

SMALLEST_NORM = 1e-9  # of a representation, so that a vector of zeros has cosine 0 with any


class _Context(NamedTuple):
    """The context of the next token of each row.

    Attributes:
        log_probabilities: float32 `(batch, vocabulary)` of the next token.
        looked: float32 `(batch, source_time)`, the alignments that it is predicted with, or ().
        seen: float32 `(batch, max_length, units)`, the representations of bos and the tokens, of length 1.
    """

    log_probabilities: Tensor
    looked: Nest
    seen: Tensor


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, kw_only=True)
class ContrastiveSearch(SingleHypothesis):
    """Contrastive search as an object: `contrastive_search` with its options, which are explained there.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> decoded = ContrastiveSearch(top_k=8)(step, state, bos_id=1, eos_id=2, max_length=99)
    """

    top_k: int = 5
    penalty_alpha: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top_k < 1:
            raise ValueError(f"top_k must be 1 or more, but got top_k={self.top_k}.")
        if not 0 <= self.penalty_alpha <= 1:
            raise ValueError(f"penalty_alpha must be between 0 and 1, but got penalty_alpha={self.penalty_alpha}.")

    def start_loop(self, task: Task, start: Start) -> Loop:
        """Return the state after reading bos: the step runs one token ahead, to compare tokens that have been read."""
        if start.hidden_size is None:
            raise ValueError(
                "Contrastive search compares tokens by their representations, but the step returned none. Return "
                "StepOutput(logits, state, alignments, hidden) with hidden (rows, units), such as what the logits are "
                "made of."
            )
        output = task.call_step(start.last, start.carried.model)
        seen = ops.zeros((start.batch, task.max_length, start.hidden_size), dtype="float32")
        context = _Context(
            log_probabilities=log_probabilities_of(output),
            looked=() if output.alignments is None else output.alignments,
            seen=_with_representation(seen, 0, _unit(output.hidden)),
        )
        carried = start.carried._replace(model=like(start.carried.model, output.state))
        return super().start_loop(task, start)._replace(carried=carried, live=context)

    def grow(self, task: Task, loop: Loop) -> Grown:
        """Read each of the probable tokens, and choose one of each row."""
        context, model = loop.live, loop.carried.model
        log_probabilities, states = task.weigh(
            context.log_probabilities, loop.prefixes, loop.last, loop.position, loop.carried.constraints
        )
        count = min(self.top_k, log_probabilities.shape[-1])
        values, tokens = ops.top_k(log_probabilities, count)  # (batch, count)
        tokens = ops.cast(tokens, "int32")
        output = task.call_step(ops.reshape(tokens, (-1,)), repeat_rows(model, count))
        best = ops.argmax(self._score(loop, values, output), axis=-1)  # (batch,)
        place = ops.cast(best, "int32")[:, None]
        token, log_probability = (ops.take_along_axis(x, place, axis=1) for x in (tokens, values))  # (batch, 1)
        rows = ops.arange(ops.shape(tokens)[0], dtype="int32") * count + place[:, 0]
        looked = () if output.alignments is None else output.alignments
        read = StepOutput(log_probabilities_of(output), output.state, looked, output.hidden)
        read = keras.tree.map_structure(lambda x: ops.take(x, rows, axis=0), read)
        return Grown(
            carried=Carried(like(model, read.state), states),
            alignments=None if output.alignments is None else context.looked,
            tokens=token,
            log_probabilities=log_probability,
            over=loop.ended.done,
            extra=_Context(
                log_probabilities=read.logits,
                looked=read.alignments,
                seen=_with_representation(context.seen, loop.position + 1, _unit(read.hidden)),
            ),
        )

    def keep(self, task: Task, loop: Loop, grown: Grown, ended: Ended) -> _Context:
        """Return the context after the chosen token."""
        return grown.extra

    def _score(self, loop: Loop, log_probabilities: Tensor, output: StepOutput | ScoredStepOutput) -> Tensor:
        """Return the scores of the candidates, float32 `(batch, count)`; `LOG_ZERO` of forbidden ones."""
        batch, count = ops.shape(log_probabilities)
        hidden = ops.reshape(_unit(output.hidden), (batch, count, output.hidden.shape[1]))
        likeness = ops.matmul(hidden, ops.swapaxes(loop.live.seen, 1, 2))  # (batch, count, max_length), cosines
        seen = ops.arange(loop.live.seen.shape[1], dtype="int32") <= loop.position
        likeness = ops.max(ops.where(seen, likeness, -1.0), axis=-1)
        score = (1 - self.penalty_alpha) * ops.exp(log_probabilities) - self.penalty_alpha * likeness
        return ops.where(log_probabilities > NO_HYPOTHESIS, score, LOG_ZERO)


@takes_options_of(ContrastiveSearch)
def contrastive_search(step: Callable, state: Nest, **options: Any) -> Decoded:
    """Write probable tokens whose representations differ from those of the tokens before.

    Of the `top_k` most probable tokens v, the one with the largest
    `(1 - penalty_alpha) * p(v) - penalty_alpha * max_j cos(h_v, h_j)` is written. h_v is the `hidden` that the step
    returns when it reads v, and the h_j are those of bos and every token so far. So each token takes a step with
    `top_k` rows for each row. With `penalty_alpha=0` it is greedy search. Of equal tokens the more probable one is
    taken, then the lower id.

    Args:
        step: The model, `step(tokens, state[, memory]) -> StepOutput(logits, state, alignments, hidden)`; see
            `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first, at least one.
        top_k: The number of candidate tokens.
        penalty_alpha: The weight of the similarity penalty, from 0 to 1.
        min_length: The fewest tokens of a hypothesis, eos and the prompt included.
        constraints: Constraints on the tokens, applied in this order.
        **options: `bos_id`, `eos_id`, `max_length`, and the other options of `Strategy.__call__`.

    Returns:
        `Decoded` with one hypothesis per row; its score is the sum of the log-probabilities, eos included, in nats.

    Raises:
        ValueError: If an option, a length or a token is out of range, the state is empty, or the step's output is
            not as described.

    Example:
        >>> vectors = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], "float32")
        >>> def step(tokens, state):
        ...     logits = ops.broadcast_to(np.array([-9, 2, 1, 0.0]), (ops.shape(tokens)[0], 4))
        ...     return StepOutput(logits, state, None, ops.take(vectors, tokens, axis=0))
        >>> contrastive_search(step, np.zeros((1, 1)), bos_id=0, eos_id=3, max_length=4, top_k=3).tokens
        [[[2, 1, 1, 1]]]

    Reference: Y. Su, T. Lan, Y. Wang, D. Yogatama, L. Kong, N. Collier, "A contrastive framework for neural text
    generation", 2022.
    """
    return ContrastiveSearch.run(step, state, **options)


def _unit(hidden: Tensor) -> Tensor:
    """Return `hidden` `(rows, units)`, normalised to length 1."""
    norm = ops.sqrt(ops.sum(ops.square(hidden), axis=-1, keepdims=True))
    return hidden / ops.maximum(norm, SMALLEST_NORM)


def _with_representation(seen: Tensor, position: Tensor | int, hidden: Tensor) -> Tensor:
    """Return `seen` `(batch, max_length, units)` with `hidden` `(batch, units)` at `position`, if that is inside."""
    here = ops.arange(seen.shape[1], dtype="int32") == position
    return ops.where(here[:, None], hidden[:, None], seen)
