"""Greedy search."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor, while_loop
from kseq.decoding.constraints import with_minimum_length
from kseq.decoding.decoding import Carried, Constraint, Decoded, Nest, Start, Strategy, Task
from kseq.decoding.hypotheses import put, record


class _Loop(NamedTuple):
    position: Tensor  # int32 scalar: tokens written so far
    last: Tensor  # int32 (batch,)
    carried: Carried
    done: Tensor  # bool (batch,): ended in eos
    tokens: Tensor  # int32 (batch, max_length)
    log_probabilities: Tensor  # float32 (batch, max_length)
    lengths: Tensor  # int32 (batch,)
    alignments: Nest  # float32 (max_length, batch, source_time), or ()


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class GreedySearch(Strategy):
    """Greedy search as an object: `greedy_search` with its options.

    Example:
        >>> decoded = GreedySearch(min_length=2)(step, state, bos_id=1, eos_id=2, max_length=9)
    """

    def __call__(
        self,
        step: Callable,
        state: Nest,
        *,
        memory: Nest = None,
        bos_id: int,
        eos_id: int,
        max_length: int,
        pad_id: int = 0,
    ) -> Decoded:
        """Decode; see `greedy_search`."""
        constraints = with_minimum_length(self.min_length, max_length, self.constraints)
        task = Task(step, memory, bos_id, eos_id, pad_id, max_length, constraints)
        loop = while_loop(
            lambda loop: ops.logical_and(loop.position < max_length, ops.logical_not(ops.all(loop.done))),
            lambda loop: _write(task, loop),
            _start(task, task.start(state)),
        )
        return _decoded(loop)


def greedy_search(
    step: Callable,
    state: Nest,
    *,
    memory: Nest = None,
    bos_id: int,
    eos_id: int,
    max_length: int,
    pad_id: int = 0,
    min_length: int = 0,
    constraints: tuple[Constraint, ...] = (),
) -> Decoded:
    """Write the most probable token at every step, until eos.

    Of equal tokens the lower id is taken. The loop ends when every row has.

    Args:
        step: The model, `step(tokens, state[, memory]) -> (logits, state[, alignments])`; see
            `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first, at least one.
        memory: What it looks into, a nest of tensors with the batch first; None for a step without memory.
        bos_id: The token before the first.
        eos_id: The token that ends a row.
        max_length: The most tokens written, eos included; static.
        pad_id: The token after the end.
        min_length: The fewest tokens written, eos included.
        constraints: What further forbids or penalises tokens, applied in this order.

    Returns:
        `Decoded` with one hypothesis per row; its score is the sum of the log-probabilities, eos included, in nats.

    Raises:
        ValueError: If the state is empty, a length or a token is out of range, or the step returns other than said.

    Example:
        >>> step = lambda tokens, state: (ops.one_hot(tokens + 1, 5) * 9.0, state)  # counts
        >>> decoded = greedy_search(step, np.zeros((1, 1), "float32"), bos_id=0, eos_id=4, max_length=6)
        >>> decoded.tokens, decoded.lengths
        ([[[1, 2, 3, 4, 0, 0]]], [[4]])
    """
    strategy = GreedySearch(min_length=min_length, constraints=constraints)
    return strategy(step, state, memory=memory, bos_id=bos_id, eos_id=eos_id, max_length=max_length, pad_id=pad_id)


def _start(task: Task, start: Start) -> _Loop:
    shape = (start.batch, task.max_length)
    return _Loop(
        position=ops.zeros((), dtype="int32"),
        last=start.last,
        carried=start.carried,
        done=ops.zeros((start.batch,), dtype="bool"),
        tokens=ops.full(shape, task.pad_id, dtype="int32"),
        log_probabilities=ops.zeros(shape, dtype="float32"),
        lengths=ops.zeros((start.batch,), dtype="int32"),
        alignments=()
        if start.source_time is None
        else ops.zeros((task.max_length, start.batch, start.source_time), dtype="float32"),
    )


def _write(task: Task, loop: _Loop) -> _Loop:
    predicted = task.predict(loop.tokens, loop.last, loop.position, loop.carried)
    best = ops.cast(ops.argmax(predicted.log_probabilities, axis=-1), "int32")  # (batch,)
    log_probability = ops.take_along_axis(predicted.log_probabilities, best[:, None], axis=1)[:, 0]
    alignments = loop.alignments
    if predicted.alignments is not None:
        weights = ops.where(loop.done[:, None], 0.0, predicted.alignments)
        alignments = record(alignments, loop.position, weights)
    return _Loop(
        position=loop.position + 1,
        last=ops.where(loop.done, task.eos_id, best),  # pad need not be in the vocabulary
        carried=predicted.carried,
        done=ops.logical_or(loop.done, best == task.eos_id),
        tokens=put(loop.tokens, loop.position, ops.where(loop.done, task.pad_id, best)),
        log_probabilities=put(loop.log_probabilities, loop.position, ops.where(loop.done, 0.0, log_probability)),
        lengths=loop.lengths + ops.cast(ops.logical_not(loop.done), "int32"),
        alignments=alignments,
    )


def _decoded(loop: _Loop) -> Decoded:
    return Decoded(
        tokens=loop.tokens[:, None],
        lengths=loop.lengths[:, None],
        scores=ops.sum(loop.log_probabilities, axis=-1)[:, None],
        alignments=None if isinstance(loop.alignments, tuple) else ops.transpose(loop.alignments, (1, 0, 2))[:, None],
        finished=loop.done[:, None],
        log_probabilities=loop.log_probabilities[:, None],
    )
