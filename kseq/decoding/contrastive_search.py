"""Contrastive search."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Unpack

import keras
from keras import ops

from kseq.backend import Tensor, while_loop
from kseq.decoding.checks import like
from kseq.decoding.decoding import LOG_ZERO, Constraint, Decoded, Nest, StepOutput
from kseq.decoding.hypotheses import NO_HYPOTHESIS, put, record, repeat_rows
from kseq.decoding.strategy import Call, Strategy
from kseq.decoding.task import Carried, Start, Task

SMALLEST_NORM = 1e-9  # of a representation: a vector of zeros is like none


class _Loop(NamedTuple):
    """The state of the loop.

    Attributes:
        position: int32 scalar, tokens written so far.
        last: int32 `(batch,)`, the last of them.
        carried: The states after it.
        logits: `(batch, vocabulary)` of the next token.
        looked: float32 `(batch, source_time)`, the alignments that it is predicted with, or ().
        seen: float32 `(batch, max_length, units)`, the representations of bos and the tokens, of length 1.
        done: bool `(batch,)`, which have ended.
        tokens: int32 `(batch, max_length)`, pad after the end.
        log_probabilities: float32 `(batch, max_length)`, zero after the end.
        lengths: int32 `(batch,)`.
        alignments: float32 `(max_length, batch, source_time)`, or ().
    """

    position: Tensor
    last: Tensor
    carried: Carried
    logits: Tensor
    looked: Nest
    seen: Tensor
    done: Tensor
    tokens: Tensor
    log_probabilities: Tensor
    lengths: Tensor
    alignments: Nest


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, kw_only=True)
class ContrastiveSearch(Strategy):
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

    def decode(self, task: Task, start: Start) -> Decoded:
        """Search."""
        if start.hidden_size is None:
            raise ValueError(
                "Contrastive search compares tokens by their representations, but the step returned none. Return "
                "StepOutput(logits, state, alignments, hidden) with hidden (rows, units), such as what the logits are "
                "made of."
            )
        loop = while_loop(
            lambda loop: ops.logical_and(loop.position < task.max_length, ops.logical_not(ops.all(loop.done))),
            lambda loop: _write(self, task, loop),
            _start(task, start),
        )
        return Decoded(
            tokens=loop.tokens[:, None],
            lengths=loop.lengths[:, None],
            scores=ops.sum(loop.log_probabilities, axis=-1)[:, None],
            alignments=None
            if isinstance(loop.alignments, tuple)
            else ops.transpose(loop.alignments, (1, 0, 2))[:, None],
            finished=loop.done[:, None],
            log_probabilities=loop.log_probabilities[:, None],
        )


def contrastive_search(
    step: Callable,
    state: Nest,
    *,
    top_k: int = 5,
    penalty_alpha: float = 0.6,
    min_length: int = 0,
    constraints: tuple[Constraint, ...] = (),
    **call: Unpack[Call],
) -> Decoded:
    """Write probable tokens that are unlike what has been written.

    Of the `top_k` most probable tokens v that with the largest
    `(1 - penalty_alpha) * p(v) - penalty_alpha * max_j cos(h_v, h_j)` is written, h_v being what the step returns as
    `hidden` when it reads v, and h_j what it returned for bos and every token so far. So each token costs a step of
    `top_k` rows for each row. With `penalty_alpha=0` it is greedy search. Of equal ones the more probable is taken,
    then the lower id.

    Args:
        step: The model, `step(tokens, state[, memory]) -> StepOutput(logits, state, alignments, hidden)`; see
            `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first, at least one.
        top_k: How many tokens are compared.
        penalty_alpha: The weight of likeness, from 0 to 1.
        min_length: The fewest tokens of a hypothesis, eos and the prompt included.
        constraints: What further forbids or penalises tokens, applied in this order.
        **call: `bos_id`, `eos_id`, `max_length`, and what else a `Strategy` is called with.

    Returns:
        `Decoded` with one hypothesis per row; its score is the sum of the log-probabilities, eos included, in nats.

    Raises:
        ValueError: If an option, a length or a token is out of range, the state is empty, or the step returns other
            than said.

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
    strategy = ContrastiveSearch(
        top_k=top_k, penalty_alpha=penalty_alpha, min_length=min_length, constraints=constraints
    )
    return strategy(step, state, **call)


def _start(task: Task, start: Start) -> _Loop:
    output = task.call_step(start.last, start.carried.model)
    shape = (start.batch, task.max_length)
    seen = ops.zeros((*shape, start.hidden_size), dtype="float32")
    shown = output.alignments is not None
    return _Loop(
        position=ops.zeros((), dtype="int32"),
        last=start.last,
        carried=Carried(like(start.carried.model, output.state), start.carried.constraints),
        logits=output.logits,
        looked=output.alignments if shown else (),
        seen=_note(seen, 0, _unit(output.hidden)),
        done=ops.zeros((start.batch,), dtype="bool"),
        tokens=ops.full(shape, task.pad_id, dtype="int32"),
        log_probabilities=ops.zeros(shape, dtype="float32"),
        lengths=ops.zeros((start.batch,), dtype="int32"),
        alignments=ops.zeros((task.max_length, start.batch, start.source_time), dtype="float32") if shown else (),
    )


def _write(search: ContrastiveSearch, task: Task, loop: _Loop) -> _Loop:
    """Write one token of each row."""
    log_probabilities, states = task.weigh(loop.logits, loop.tokens, loop.last, loop.position, loop.carried.constraints)
    count = min(search.top_k, log_probabilities.shape[-1])
    values, tokens = ops.top_k(log_probabilities, count)  # (batch, count)
    tokens = ops.cast(tokens, "int32")
    output = task.call_step(ops.reshape(tokens, (-1,)), repeat_rows(loop.carried.model, count))
    best = ops.argmax(_score(search, loop, values, output), axis=-1)  # (batch,)
    place = ops.cast(best, "int32")[:, None]
    token, log_probability = (ops.take_along_axis(x, place, axis=1)[:, 0] for x in (tokens, values))
    rows = ops.arange(ops.shape(tokens)[0], dtype="int32") * count + place[:, 0]
    written = keras.tree.map_structure(lambda x: ops.take(x, rows, axis=0), output._replace(alignments=()))
    shown = output.alignments is not None
    return _Loop(
        position=loop.position + 1,
        last=ops.where(loop.done, task.eos_ids[0], token),
        carried=Carried(like(loop.carried.model, written.state), states),
        logits=written.logits,
        looked=ops.take(output.alignments, rows, axis=0) if shown else (),
        seen=_note(loop.seen, loop.position + 1, _unit(written.hidden)),
        done=ops.logical_or(loop.done, task.is_end(token)),
        tokens=put(loop.tokens, loop.position, ops.where(loop.done, task.pad_id, token)),
        log_probabilities=put(loop.log_probabilities, loop.position, ops.where(loop.done, 0.0, log_probability)),
        lengths=loop.lengths + ops.cast(ops.logical_not(loop.done), "int32"),
        alignments=record(loop.alignments, loop.position, ops.where(loop.done[:, None], 0.0, loop.looked))
        if shown
        else (),
    )


def _score(search: ContrastiveSearch, loop: _Loop, log_probabilities: Tensor, output: StepOutput) -> Tensor:
    """Return what the candidates are compared by, float32 `(batch, count)`; `LOG_ZERO` of what must not come."""
    batch, count = ops.shape(log_probabilities)
    hidden = ops.reshape(_unit(output.hidden), (batch, count, output.hidden.shape[1]))
    likeness = ops.matmul(hidden, ops.swapaxes(loop.seen, 1, 2))  # (batch, count, max_length), cosines
    seen = ops.arange(loop.seen.shape[1], dtype="int32") <= loop.position
    likeness = ops.max(ops.where(seen, likeness, -1.0), axis=-1)
    score = (1 - search.penalty_alpha) * ops.exp(log_probabilities) - search.penalty_alpha * likeness
    return ops.where(log_probabilities > NO_HYPOTHESIS, score, LOG_ZERO)


def _unit(hidden: Tensor) -> Tensor:
    """Return representations `(rows, units)` of length 1."""
    norm = ops.sqrt(ops.sum(ops.square(hidden), axis=-1, keepdims=True))
    return hidden / ops.maximum(norm, SMALLEST_NORM)


def _note(seen: Tensor, position: Tensor | int, hidden: Tensor) -> Tensor:
    """Return `seen` `(batch, max_length, units)` with `hidden` `(batch, units)` at `position`; beyond it, as it was."""
    here = ops.arange(seen.shape[1], dtype="int32") == position
    return ops.where(here[:, None], hidden[:, None], seen)
