"""Stochastic beam search."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Unpack

import keras
from keras import ops

from kseq.backend import Tensor, while_loop
from kseq.decoding.decoding import LOG_ZERO, Constraint, Decoded, Nest
from kseq.decoding.hypotheses import (
    NO_HYPOTHESIS,
    Written,
    append,
    largest,
    read_alignments,
    record,
    repeat_rows,
    take_hypotheses,
)
from kseq.decoding.in_place import spread_rows, take_rows
from kseq.decoding.strategy import Call, Strategy
from kseq.decoding.task import Carried, Start, Task
from kseq.decoding.threefry import Words, gumbel, row_keys, threefry

ROOT = 2**32 - 1  # the counter of the root's number, which no position has


class _Sampled(NamedTuple):
    """The samples so far, those that have ended among them, best first; `(batch, beam)` each.

    Attributes:
        written: What they have written.
        totals: float32, the sums of their log-probabilities; below `NO_HYPOTHESIS` there is none.
        perturbed: float32, the Gumbel variables that they are chosen by.
        lengths: int32.
        done: bool, whether they have ended.
    """

    written: Written
    totals: Tensor
    perturbed: Tensor
    lengths: Tensor
    done: Tensor


class _Loop(NamedTuple):
    position: Tensor  # int32 scalar
    last: Tensor  # int32 (batch * beam,)
    carried: Carried
    sampled: _Sampled
    alignments: Nest  # float32 (max_length, batch * beam, source_time), or ()


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, kw_only=True)
class StochasticBeamSearch(Strategy):
    """Stochastic beam search as an object: `stochastic_beam_search` with its options, which are explained there.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> decoded = StochasticBeamSearch(num_samples=5)(step, state, bos_id=1, eos_id=2, max_length=9, seed=7)
    """

    draws: ClassVar[bool] = True
    num_samples: int = 1
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be 1 or more, but got num_samples={self.num_samples}.")
        if not self.temperature >= 1e-30:  # what float32 can divide by
            raise ValueError(
                f"temperature must be above 0, but got temperature={self.temperature}, and 1e-30 at least. For "
                "the most probable hypotheses use beam_search."
            )

    def decode(self, task: Task, start: Start) -> Decoded:
        """Draw the samples."""
        key = row_keys(task.seed, start.batch)
        loop = while_loop(
            lambda loop: ops.logical_and(
                loop.position < task.max_length, ops.logical_not(ops.all(_over(loop.sampled)))
            ),
            lambda loop: _advance(self.temperature, task, key, loop),
            _start(self.num_samples, task, start, key),
        )
        return _decoded(task, loop)


def stochastic_beam_search(
    step: Callable,
    state: Nest,
    *,
    num_samples: int = 1,
    temperature: float = 1.0,
    min_length: int = 0,
    constraints: tuple[Constraint, ...] = (),
    **call: Unpack[Call],
) -> Decoded:
    """Draw different hypotheses by the model's probability: without replacement.

    Every hypothesis y has the perturbed log-probability `G(y) = log p(y) + g(y)`, the g being independent standard
    Gumbel variables; the `num_samples` largest are a sample without replacement. They are found by a beam of that
    width: a prefix's G is the largest of all that begin with it, so given that of a prefix those of its continuations
    are drawn such that their largest is it.

    p is the product of the tokens' probabilities `p(token) ** (1 / temperature)`, normalised over what constraints
    allow; a prompt's tokens have probability 1. What reaches `max_length` without eos is a hypothesis too.

    To estimate a mean over all hypotheses, draw one more than are used: with its score k, the hypothesis y is among
    those used with the probability `1 - exp(-exp(log p(y) - k))`, by which its value is divided.

    Args:
        step: The model, `step(tokens, state[, memory]) -> (logits, state[, alignments])`; see
            `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first, at least one.
        num_samples: How many hypotheses are drawn of each row.
        temperature: What the log-probabilities are divided by: below 1 sharpens them, above 1 flattens them.
        min_length: The fewest tokens of a hypothesis, eos and the prompt included.
        constraints: What further forbids or penalises tokens, applied in this order.
        **call: `bos_id`, `eos_id`, `max_length`, `seed`, and what else a `Strategy` is called with. Without a seed each
            call draws other samples.

    Returns:
        `Decoded` with `num_samples` different hypotheses per row, in the order in which they would be drawn one by one.
        Scores are the G, in nats; the log-probabilities are the model's own. Where there are fewer hypotheses, the rest
        has length 0 and score -1e30.

    Raises:
        ValueError: If an option, a length or a token is out of range, the state is empty, the step returns other than
            said, or there is no seed in a function compiled by JAX.

    Example:
        >>> table = ops.log(np.array([[0, 0.6, 0.4, 0], [0, 0.3, 0.3, 0.4], [0, 0, 0, 1], [0, 0, 0, 1]]) + 1e-9)
        >>> step = lambda tokens, state: (ops.take(table, tokens, axis=0), state)
        >>> options = {"num_samples": 3, "seed": 1}
        >>> stochastic_beam_search(step, np.zeros((1, 1)), bos_id=0, eos_id=3, max_length=4, **options).lengths
        [[3, 4, 2]]

    Reference: W. Kool, H. van Hoof, M. Welling, "Stochastic beams and where to find them: the Gumbel-top-k trick for
    sampling sequences without replacement", 2019.
    """
    strategy = StochasticBeamSearch(
        num_samples=num_samples, temperature=temperature, min_length=min_length, constraints=constraints
    )
    return strategy(step, state, **call)


def _start(beam: int, task: Task, start: Start, key: Words) -> _Loop:
    shape = (start.batch, beam)
    exists = ops.broadcast_to(ops.arange(beam) == 0, shape)  # one prefix, the empty one
    root = gumbel(threefry(key, _counter(key.first, ROOT, 0)).first)  # (batch,)
    return _Loop(
        position=ops.zeros((), dtype="int32"),
        last=repeat_rows(start.last, beam),
        carried=spread_rows(start.carried, beam),
        sampled=_Sampled(
            written=Written(
                tokens=ops.full((*shape, task.max_length), task.pad_id, dtype="int32"),
                slots=ops.zeros((*shape, task.max_length), dtype="int32"),
                log_probabilities=ops.zeros((*shape, task.max_length), dtype="float32"),
            ),
            totals=ops.where(exists, 0.0, LOG_ZERO),
            perturbed=ops.where(exists, root[:, None], LOG_ZERO),
            lengths=ops.zeros(shape, dtype="int32"),
            done=ops.zeros(shape, dtype="bool"),
        ),
        alignments=()
        if start.source_time is None
        else ops.zeros((task.max_length, start.batch * beam, start.source_time), dtype="float32"),
    )


def _over(sampled: _Sampled) -> Tensor:
    """Return which samples do not go on: they have ended, or there is none."""
    return ops.logical_or(sampled.done, sampled.totals <= NO_HYPOTHESIS)


def _advance(temperature: float, task: Task, key: Words, loop: _Loop) -> _Loop:
    sampled, over = loop.sampled, _over(loop.sampled)
    batch, beam = ops.shape(sampled.totals)
    tokens = ops.reshape(sampled.written.tokens, (batch * beam, task.max_length))
    predicted = task.predict(tokens, loop.last, loop.position, loop.carried)
    own, normalised = _by_hypothesis(predicted.log_probabilities, temperature, (batch, beam))
    totals = sampled.totals[..., None] + normalised  # (batch, beam, vocabulary)
    perturbed = _perturb(totals, sampled.perturbed, key, loop.position)
    # What has ended goes on as itself, in the place of token 0.
    itself = ops.where(ops.arange(own.shape[-1], dtype="int32") == 0, sampled.perturbed[..., None], LOG_ZERO)
    kept, slots, tokens = largest(ops.where(over[..., None], itself, perturbed))  # (batch, beam) each
    before, over = take_hypotheses((sampled, over), slots)
    own, totals = (
        ops.take_along_axis(take_hypotheses(x, slots), tokens[..., None], axis=2)[..., 0] for x in (own, totals)
    )
    goes_on = ops.logical_not(over)
    return _Loop(
        position=loop.position + 1,
        last=ops.reshape(ops.where(over, task.eos_ids[0], tokens), (batch * beam,)),
        carried=take_rows(predicted.carried, slots),
        sampled=_Sampled(
            written=append(
                before.written,
                loop.position,
                ops.where(over, task.pad_id, tokens),
                slots,
                ops.where(over, 0.0, own),
            ),
            totals=ops.where(kept > NO_HYPOTHESIS, ops.where(over, before.totals, totals), LOG_ZERO),
            perturbed=kept,
            lengths=before.lengths + ops.cast(goes_on, "int32"),
            done=ops.logical_or(before.done, ops.logical_and(goes_on, task.is_end(tokens))),
        ),
        alignments=() if predicted.alignments is None else record(loop.alignments, loop.position, predicted.alignments),
    )


def _by_hypothesis(log_probabilities: Tensor, temperature: float, shape: tuple) -> tuple[Tensor, Tensor]:
    """Return the model's log-probabilities and those that are drawn by, float32 `(batch, beam, vocabulary)` each."""
    own = ops.reshape(log_probabilities, (*shape, log_probabilities.shape[-1]))
    possible = own > NO_HYPOTHESIS
    best = ops.max(own, axis=-1, keepdims=True)
    normalised = ops.log_softmax(ops.where(possible, (own - best) / temperature, LOG_ZERO), axis=-1)
    return own, ops.where(possible, normalised, LOG_ZERO)


def _perturb(totals: Tensor, parents: Tensor, key: Words, position: Tensor) -> Tensor:
    """Return Gumbel variables at `totals` `(batch, beam, vocabulary)`, their largest being `parents` `(batch, beam)`.

    G' = -log(exp(-parent) - exp(-max G) + exp(-G)), which is written so that no exponential overflows.
    """
    beam, vocabulary = totals.shape[1:]
    shape = (1, beam, vocabulary)
    index = ops.reshape(ops.arange(beam * vocabulary, dtype="int32"), shape)
    counter = Words(*(ops.cast(x, "uint32") for x in (ops.zeros_like(index) + position, index)))
    key = Words(key.first[:, None, None], key.second[:, None, None])
    possible = totals > NO_HYPOTHESIS
    free = ops.where(possible, totals + gumbel(threefry(key, counter).first), LOG_ZERO)
    largest = ops.max(free, axis=-1, keepdims=True)
    below = ops.where(free < largest, largest - free, 1.0)  # above 0; not used at the largest itself
    v = parents[..., None] - free + ops.log(-ops.expm1(-below))
    perturbed = parents[..., None] - ops.maximum(v, 0.0) - ops.log1p(ops.exp(-ops.abs(v)))
    perturbed = ops.where(free < largest, perturbed, parents[..., None])
    return ops.where(possible, perturbed, LOG_ZERO)


def _decoded(task: Task, loop: _Loop) -> Decoded:
    """Return the samples; what reached `max_length` is one."""
    sampled, beam = loop.sampled, loop.sampled.totals.shape[1]
    exists = sampled.totals > NO_HYPOTHESIS  # (batch, beam)
    lengths = ops.where(exists, sampled.lengths, 0)
    real = ops.arange(task.max_length, dtype="int32") < lengths[..., None]  # (batch, beam, max_length)
    buffer = loop.alignments
    return Decoded(
        tokens=ops.where(real, sampled.written.tokens, task.pad_id),
        lengths=lengths,
        scores=ops.where(exists, sampled.perturbed, LOG_ZERO),
        alignments=None if isinstance(buffer, tuple) else read_alignments(buffer, sampled.written.slots, real, beam),
        finished=ops.logical_and(exists, sampled.done),
        log_probabilities=ops.where(real, sampled.written.log_probabilities, 0.0),
    )


def _counter(like: Tensor, first: int, second: int) -> Words:
    zeros = ops.zeros_like(like)
    return Words(*(zeros + ops.convert_to_tensor(word, dtype="uint32") for word in (first, second)))
