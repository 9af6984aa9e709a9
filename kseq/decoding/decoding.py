"""The contract of decoding: the step that a model offers, and the answer that every strategy returns.

A **step** is a callable `step(tokens, state)`, or `step(tokens, state, memory)` if a memory is given:

- `tokens`: int32 `(rows,)`, the last token of each hypothesis, `bos_id` at first. Rows are batch x hypotheses:
  `row = batch_index * hypotheses + hypothesis`;
- `state`: any nest of tensors with the rows first. It is reordered with the hypotheses, which copies it at every step
  of a beam search; for a state that is too large to copy, see `UnmovedState`;
- `memory`: any nest of tensors with the *batch* first that does not change while decoding, such as the encoder's
  outputs. It is neither repeated nor reordered, so a step reshapes its `(rows, dim)` to `(batch, hypotheses, dim)` to
  attend to it.

It returns `(logits, state)`, `(logits, state, alignments)` or a whole `StepOutput`:

- `logits`: float `(rows, vocabulary)`, unnormalised;
- `state`: the new state, with the structure, shapes and dtypes of the old;
- `alignments`: float `(rows, source_time)`, the attention weights over the source, exactly zero at its padding; None
  for a step without attention;
- `hidden`: float `(rows, units)`, a representation of the token just read in its context, such as the input of the
  output layer. Only strategies that compare tokens read it; None if there is none.

Strategies add up the logarithms of the logits' softmax. A step whose scores are not those of a distribution returns a
`ScoredStepOutput`, with the scores to add up.

A step is pure: it is called once more than there are tokens, because a first call, whose values are not used, tells the
shapes.

Scores and log-probabilities are float32 and in nats, whatever the model's precision.
"""

import inspect
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import keras

from kseq.backend import Tensor
from kseq.decoding.option_names import refuse_unknown

LOG_ZERO = -1e30  # the logarithm of zero: finite, for sums and differences of infinities are NaN
Nest = Any


class StepOutput(NamedTuple):
    """The output of a step, by name; see the module. A plain tuple of the first two, three or all four will do.

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


class ScoredStepOutput(NamedTuple):
    """The output of a step with scores of its own; see the module.

    Attributes:
        logits: As in `StepOutput`, for code that reads no scores.
        state: As in `StepOutput`.
        alignments: As in `StepOutput`.
        hidden: As in `StepOutput`.
        scores: float `(rows, vocabulary)`, from `LOG_ZERO` to 0, in place of log-probabilities; their exponentials need
            not sum to one.
    """

    logits: Tensor
    state: Nest
    alignments: Tensor | None
    hidden: Tensor | None
    scores: Tensor


class Decoded(NamedTuple):
    """The `n` best hypotheses of each row, best first.

    Attributes:
        tokens: int32 `(batch, n, max_length)`, first those of the prompt; with eos where there was one, and pad after
            the end.
        lengths: int32 `(batch, n)`, tokens up to the end, eos included. 0 where there are fewer than `n` hypotheses.
        scores: float32 `(batch, n)`, the scores by which the hypotheses are ranked, in nats; -1e30 where there is none.
        alignments: float32 `(batch, n, max_length, source_time)`, the weights that each token was predicted with, zero
            after the end; None if the step returns none.
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
    """The hypotheses before their next token is chosen, as a constraint sees them.

    Attributes:
        tokens: int32 `(rows, max_length)`, the tokens so far, without bos; pad from `length` on, and where a row has
            ended. Pad need not be in the vocabulary.
        last: int32 `(rows,)`, the last token; bos at first.
        length: int32 scalar, the number of tokens so far.
        eos_ids: The tokens that end a hypothesis, ascending.
        reserved: How many of the last places before `max_length` a constraint fills, see `Constraint.reserved_places`.
            Other constraints must have their tokens written before these places.
    """

    tokens: Tensor
    last: Tensor
    length: Tensor
    eos_ids: tuple[int, ...]
    reserved: int = 0


@dataclass(frozen=True, eq=False)  # subclasses with fields compare them; without, all their objects would be equal
class Options:
    """A frozen dataclass that Keras can save and load, its fields being its configuration."""

    def __new__(cls, *_: Any, **options: Any) -> Self:
        """Raise TypeError, with a hint, if an option is none of the class."""
        if options:
            parameters = inspect.signature(cls.__init__).parameters
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
                refuse_unknown(cls.__name__, options, list(parameters)[1:])
        return super().__new__(cls)

    def get_config(self) -> dict[str, Any]:
        """Return the fields, serialised."""
        return {field.name: keras.saving.serialize_keras_object(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return an object with the fields of `get_config`."""
        return cls(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})


@dataclass(frozen=True)
class Constraint(Options):
    """Base class of constraints, which forbid or penalise tokens; called as a step is, with a state of its own.

    Constraints are applied in their order to log-probabilities, which are not normalised again: an allowed token keeps
    the model's own probability. A constraint may lower log-probabilities, to `LOG_ZERO` for a forbidden token, but must
    not raise them above zero: a beam search stops early on the assumption that sums of log-probabilities only fall.

    Subclasses are frozen dataclasses, registered with Keras, so that a strategy with constraints can be saved.

    Example:
        >>> @keras.saving.register_keras_serializable(package="mine")
        ... @dataclass(frozen=True)
        ... class NoRepeat(Constraint):
        ...     '''Forbids to write a token twice in a row.'''
        ...     def __call__(self, log_probabilities, prefix, state):
        ...         repeated = ops.one_hot(prefix.last, log_probabilities.shape[-1], dtype="bool")
        ...         return ops.where(repeated, LOG_ZERO, log_probabilities), state
    """

    @property
    def reserved_places(self) -> int:
        """How many of the last places before `max_length` the constraint fills, such as with an end; 0 by default."""
        return 0

    def initial_state(self, batch: int | Tensor, vocabulary_size: int, max_length: int) -> Nest:
        """Return the state before the first token: a nest of tensors with `batch` rows, or an empty one."""
        return ()

    def __call__(self, log_probabilities: Tensor, prefix: Prefix, state: Nest) -> tuple[Tensor, Nest]:
        """Return the constrained log-probabilities and the new state.

        Args:
            log_probabilities: float32 `(rows, vocabulary)` of the next token.
            prefix: The hypotheses so far.
            state: The state returned for the last token, reordered with the hypotheses; `prefix.last` has been written
                since.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__(log_probabilities, prefix, state).")
