"""The contract of decoding: the step that a model offers, and what every strategy returns.

A **step** is a callable `step(tokens, state)`, or `step(tokens, state, memory)` if a memory is given:

- `tokens`: int32 `(rows,)`, the last token of each hypothesis, `bos_id` at first. Rows are batch x hypotheses:
  `row = batch_index * hypotheses + hypothesis`;
- `state`: any nest of tensors with the rows first; it is reordered as the hypotheses are, which copies it at every step
  of a beam search: what is too large for that stays in place, see `InPlace`;
- `memory`: any nest of tensors with the *batch* first: what does not change while decoding. It is neither repeated nor
  reordered, so a step turns its `(rows, dim)` into `(batch, hypotheses, dim)` to look into it.

It returns `(logits, state)`, `(logits, state, alignments)` or all of a `StepOutput`:

- `logits`: float `(rows, vocabulary)`, unnormalised;
- `state`: the new state, with the structure, shapes and dtypes of the old;
- `alignments`: float `(rows, source_time)`, the attention weights over the source, exactly zero at its padding; None if
  there are none to show;
- `hidden`: float `(rows, units)`, what stands for the token just read, in its context, such as what the logits are made
  of. Only strategies that compare tokens ask for it; None if there is none.

A step is pure: it is called once more than there are tokens, because a first call, whose values nobody uses, tells the
shapes.

Scores and log-probabilities are float32 and in nats, whatever the model's precision.
"""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import keras

from kseq.backend import Tensor

LOG_ZERO = -1e30  # the logarithm of zero: finite, for sums and differences of infinities are NaN
Nest = Any


class StepOutput(NamedTuple):
    """What a step returns, by name; see the module. A plain tuple of the first two, three or all four will do.

    Attributes:
        logits: float `(rows, vocabulary)`, unnormalised.
        state: The new state, like the old.
        alignments: float `(rows, source_time)`, or None.
        hidden: float `(rows, units)`, or None.
    """

    logits: Tensor
    state: Nest
    alignments: Tensor | None = None
    hidden: Tensor | None = None


class Decoded(NamedTuple):
    """The `n` best hypotheses of each row, best first.

    Attributes:
        tokens: int32 `(batch, n, max_length)`, the prompt's first, with eos where there was one, and pad after the end.
        lengths: int32 `(batch, n)`, tokens up to the end, eos included. 0 where there are fewer than `n` hypotheses.
        scores: float32 `(batch, n)`, what the hypotheses are ranked by, in nats; -1e30 where there is none.
        alignments: float32 `(batch, n, max_length, source_time)`, the weights that each token was predicted with, zero
            after the end; None if the step gives none.
        finished: bool `(batch, n)`, whether the hypothesis ended in eos; False if it was cut at `max_length`.
        log_probabilities: float32 `(batch, n, max_length)`, each token's, zero after the end.
    """

    tokens: Tensor
    lengths: Tensor
    scores: Tensor
    alignments: Tensor | None
    finished: Tensor
    log_probabilities: Tensor


class Prefix(NamedTuple):
    """What a constraint sees of the hypotheses before their next token is chosen.

    Attributes:
        tokens: int32 `(rows, max_length)`, the tokens so far, without bos; pad from `length` on, and where a row has
            ended. Pad need not be in the vocabulary.
        last: int32 `(rows,)`, the last token; bos at first.
        length: int32 scalar, the number of tokens so far.
        eos_ids: The tokens that end a hypothesis, ascending.
        reserved: How many of the last places before `max_length` a constraint fills, see `Constraint.reserved_places`:
            what else must come has to come before them.
    """

    tokens: Tensor
    last: Tensor
    length: Tensor
    eos_ids: tuple[int, ...]
    reserved: int = 0


@dataclass(frozen=True, eq=False)  # its comparison would take all objects of a subclass without one for equal
class Options:
    """A frozen dataclass that Keras can save and load, its fields being its configuration."""

    def get_config(self) -> dict[str, Any]:
        """Return the fields, serialised."""
        return {field.name: keras.saving.serialize_keras_object(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return an object with the fields of `get_config`."""
        return cls(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})


@dataclass(frozen=True)
class Constraint(Options):
    """Base class of what forbids or penalises tokens, called as a step is: with a state of its own.

    Constraints are applied in the order given, to log-probabilities, which are not normalised again: what is still
    allowed keeps the model's own probability. A constraint may lower log-probabilities, to `LOG_ZERO` for a token that
    must not come, but not raise them above zero: that a beam search knows when to stop rests on this.

    Subclasses are frozen dataclasses, registered with Keras, so that a strategy with constraints can be saved.

    Example:
        >>> @keras.saving.register_keras_serializable(package="mine")
        ... @dataclass(frozen=True)
        ... class NoRepeat(Constraint):
        ...     '''Forbids the token that has just come.'''
        ...     def __call__(self, log_probabilities, prefix, state):
        ...         repeated = ops.one_hot(prefix.last, log_probabilities.shape[-1], dtype="bool")
        ...         return ops.where(repeated, LOG_ZERO, log_probabilities), state
    """

    @property
    def reserved_places(self) -> int:
        """How many of the last places before `max_length` it fills itself, such as with an end; none by default."""
        return 0

    def initial_state(self, batch: int | Tensor, vocabulary_size: int, max_length: int) -> Nest:
        """Return the state before the first token: a nest of tensors with `batch` rows, or an empty one."""
        del batch, vocabulary_size, max_length
        return ()

    def __call__(self, log_probabilities: Tensor, prefix: Prefix, state: Nest) -> tuple[Tensor, Nest]:
        """Return the constrained log-probabilities and the new state.

        Args:
            log_probabilities: float32 `(rows, vocabulary)` of the next token.
            prefix: The hypotheses so far.
            state: As it was returned for the last token, reordered as the hypotheses are; `prefix.last` has been
                appended since.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__(log_probabilities, prefix, state).")
