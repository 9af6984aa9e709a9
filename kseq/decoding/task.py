"""Decoding tasks: a model, the options of a call, and the work of every step that no strategy changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor, fresh_seed
from kseq.decoding.checks import batch_of, call_step, check_state, check_token, like, log_probabilities_of, read_ends
from kseq.decoding.decoding import Constraint, Nest, Prefix, ScoredStepOutput, StepOutput
from kseq.decoding.prompt import Prompt
from kseq.numbers import read_numbers
from kseq.threefry import key_of


class Carried(NamedTuple):
    """The states that follow the hypotheses from step to step, rows first: the model's, and one for each constraint."""

    model: Nest
    constraints: tuple


class Predicted(NamedTuple):
    """A prediction of the next token.

    Attributes:
        log_probabilities: float32 `(rows, vocabulary)`, constrained; inside a prompt only its token is possible.
        carried: The new states.
        alignments: float32 `(rows, source_time)`, or None.
    """

    log_probabilities: Tensor
    carried: Carried
    alignments: Tensor | None


class Start(NamedTuple):
    """The checked input of a search.

    Attributes:
        batch: The number of rows of the initial state, an int or an int32 scalar.
        last: int32 `(batch,)`, bos.
        carried: The initial states, with the batch first.
        source_time: The length of the alignments, an int or an int32 scalar; None if the step returns none.
        hidden_size: The units of the step's `hidden`; None if the step returns none.
        valid: bool `(batch,)`, the rows whose prompt is right; None without a prompt.
    """

    batch: int | Tensor
    last: Tensor
    carried: Carried
    source_time: int | Tensor | None
    hidden_size: int | None
    valid: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A step, the constraints, and the options of a call, which `Strategy.__call__` explains.

    Attributes:
        step: The model.
        constraints: The constraints, in the order in which they are applied.
        eos_ids: The tokens that end a hypothesis, ascending; made from `eos_id`.
        forced: The prompts; made from `prompt`, `prompt_lengths` and `score_prompt`. None without a prompt.

    Raises:
        ValueError: If a length is out of range, a prompt has a wrong shape, or no token ends a hypothesis.
    """

    step: Callable
    constraints: tuple[Constraint, ...] = ()
    memory: Nest = None
    bos_id: int
    eos_id: int | Sequence[int]
    max_length: int
    pad_id: int = 0
    prompt: Tensor | None = None
    prompt_lengths: Tensor | None = None
    score_prompt: bool = False
    seed: Nest = None
    source_mask: Tensor | None = None
    eos_ids: tuple[int, ...] = field(init=False)
    forced: Prompt | None = field(init=False)

    def __post_init__(self) -> None:
        read_numbers(self)
        object.__setattr__(self, "eos_ids", read_ends(self.eos_id))
        object.__setattr__(self, "forced", Prompt.of(self.prompt, self.prompt_lengths, self.score_prompt))
        if self.max_length < 1:
            raise ValueError(f"max_length counts eos and must be 1 or more, but got max_length={self.max_length}.")

    def tensors(self, state: Nest, *, draws: bool) -> tuple[Nest, dict[str, Nest]]:
        """Return the initial state, and the options of the call that are tensors, as tensors; for a compiled call.

        Args:
            state: The initial state.
            draws: Whether the seed is read.
        """
        seed = key_of(fresh_seed() if self.seed is None else self.seed) if draws else None
        forced = {} if self.forced is None else {"prompt": self.forced.tokens, "prompt_lengths": self.forced.lengths}
        options = {"memory": self.memory, "seed": seed, "source_mask": self.source_mask, **forced}
        return keras.tree.map_structure(
            lambda x: ops.convert_to_tensor(x) if hasattr(x, "shape") else x, (state, options)
        )

    def start(self, state: Nest) -> Start:
        """Check the model by a first call, and return the input of the search."""
        if isinstance(self.step, type) or not callable(self.step):
            raise TypeError(f"step must be a function such as model.step, but is {self.step!r}.")
        state = keras.tree.map_structure(ops.convert_to_tensor, state)
        batch = batch_of(state)
        tokens = ops.full((batch,), self.bos_id, dtype="int32")
        output = self.call_step(tokens, state)
        check_state(state, output.state)
        vocabulary_size = output.logits.shape[-1]
        for token in self.eos_ids:
            check_token("eos_id", token, vocabulary_size)
        if self.forced is not None:
            self.forced.check(batch, vocabulary_size, self.eos_ids)
        return Start(
            batch=batch,
            last=tokens,
            carried=Carried(
                state, tuple(x.initial_state(batch, vocabulary_size, self.max_length) for x in self.constraints)
            ),
            source_time=None if output.alignments is None else ops.shape(output.alignments)[1],
            hidden_size=None if output.hidden is None else output.hidden.shape[1],
            valid=None if self.forced is None else self.forced.valid(vocabulary_size, self.eos_ids),
        )

    def predict(self, tokens: Nest, last: Tensor, length: Tensor, carried: Carried) -> Predicted:
        """Return the prediction that follows `length` tokens.

        Args:
            tokens: int32 `(rows, max_length)`, the tokens so far; () without constraints, which alone read them.
            last: int32 `(rows,)`, the last of them.
            length: int32 scalar.
            carried: The states.
        """
        output = self.call_step(last, carried.model)
        own = log_probabilities_of(output)
        log_probabilities, states = self.weigh(own, tokens, last, length, carried.constraints)
        return Predicted(log_probabilities, Carried(like(carried.model, output.state), states), output.alignments)

    def call_step(self, tokens: Tensor, state: Nest) -> StepOutput | ScoredStepOutput:
        """Call the step and check its output."""
        return call_step(self.step, tokens, state, self.memory)

    def weigh(self, own: Tensor, tokens: Nest, last: Tensor, length: Tensor, states: tuple) -> tuple:
        """Return the next token's constrained log-probabilities `(rows, vocabulary)`, and the constraints' states.

        Args:
            own: float32 `(rows, vocabulary)`, the model's own.
            tokens: As in `predict`.
            last: As in `predict`.
            length: As in `predict`.
            states: The constraints' states.
        """
        reserved = max((getattr(constraint, "reserved_places", 0) for constraint in self.constraints), default=0)
        log_probabilities, prefix, new_states = own, Prefix(tokens, last, length, self.eos_ids, reserved), []
        for constraint, state in zip(self.constraints, states, strict=True):
            log_probabilities, new_state = constraint(log_probabilities, prefix, state)
            new_states.append(like(state, new_state))
        if self.forced is not None:
            log_probabilities = self.forced.force(log_probabilities, own, length)
        return log_probabilities, tuple(new_states)

    def is_end(self, tokens: Tensor) -> Tensor:
        """Return where `tokens` end a hypothesis, bool of their shape."""
        ends = tokens == self.eos_ids[0]
        for token in self.eos_ids[1:]:
            ends = ops.logical_or(ends, tokens == token)
        return ends

    def counted(self, length: Tensor | int) -> Tensor | int:
        """Return how many of the first `length` tokens are scored, at least one: a scalar, or int32 `(batch,)`."""
        return length if self.forced is None else self.forced.counted(length)
