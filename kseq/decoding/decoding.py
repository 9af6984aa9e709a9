"""The contract of decoding: the step that a model offers, and what every strategy returns.

A **step** is a callable `step(tokens, state)`, or `step(tokens, state, memory)` if a memory is given:

- `tokens`: int32 `(rows,)`, the last token of each hypothesis, `bos_id` at first. Rows are batch x hypotheses:
  `row = batch_index * hypotheses + hypothesis`;
- `state`: any nest of tensors with the rows first; it is reordered as the hypotheses are;
- `memory`: any nest of tensors with the *batch* first: what does not change while decoding. It is neither repeated nor
  reordered, so a step turns its `(rows, dim)` into `(batch, hypotheses, dim)` to look into it.

It returns `(logits, state)`, or `(logits, state, alignments)` if the model has attention to show:

- `logits`: float `(rows, vocabulary)`, unnormalised;
- `state`: the new state, with the structure, shapes and dtypes of the old;
- `alignments`: float `(rows, source_time)`, the attention weights over the source, exactly zero at its padding.

A step is pure: it is called once more than there are tokens, because a first call, whose values nobody uses, tells the
shapes.

Scores and log-probabilities are float32 and in nats, whatever the model's precision.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import keras
from keras import ops

from kseq.backend import Tensor

LOG_ZERO = -1e30  # the logarithm of zero: finite, for sums and differences of infinities are NaN
Nest = Any


class Decoded(NamedTuple):
    """The `n` best hypotheses of each row, best first.

    Attributes:
        tokens: int32 `(batch, n, max_length)`, with eos where there was one, and pad after the end.
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
        tokens: int32 `(rows, max_length)`, the tokens so far, without bos; pad from `length` on.
        last: int32 `(rows,)`, the last token; bos at first.
        length: int32 scalar, the number of tokens so far.
        eos_id: The token that ends a hypothesis.
    """

    tokens: Tensor
    last: Tensor
    length: Tensor
    eos_id: int


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


@dataclass(frozen=True, kw_only=True)
class Strategy(Options):
    """Base class of decoding strategies: frozen options, called on a step.

    Attributes:
        min_length: The fewest tokens of a hypothesis, eos included.
        constraints: What further forbids or penalises tokens, applied in this order.
    """

    min_length: int = 0
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        if self.min_length < 0:
            raise ValueError(f"min_length must be 0 or more, but got min_length={self.min_length}.")
        object.__setattr__(self, "constraints", tuple(self.constraints))

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
        """Decode with `step` from `state`, whose number of rows is the batch.

        Args:
            step: The model; see `kseq.decoding.decoding`.
            state: Its initial state, a nest of tensors with the batch first, at least one.
            memory: What it looks into, a nest of tensors with the batch first; None for a step without memory.
            bos_id: The token before the first.
            eos_id: The token that ends a hypothesis.
            max_length: The most tokens of a hypothesis, eos included; static.
            pad_id: The token after the end.

        Returns:
            The `Decoded` hypotheses, best first.

        Raises:
            ValueError: If the state is empty, a length or a token is out of range, or the step returns other than said.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__.")


class Carried(NamedTuple):
    """What goes with the hypotheses from step to step, rows first: the model's state and one state per constraint."""

    model: Nest
    constraints: tuple


class Predicted(NamedTuple):
    """What a step says about the next token.

    Attributes:
        log_probabilities: float32 `(rows, vocabulary)`, constrained.
        carried: The new states.
        alignments: float32 `(rows, source_time)`, or None.
    """

    log_probabilities: Tensor
    carried: Carried
    alignments: Tensor | None


@dataclass(frozen=True)
class Task:
    """What is decoded: a model's step and memory, the special tokens, and the constraints.

    Raises:
        ValueError: If a length is out of range.
    """

    step: Callable
    memory: Nest
    bos_id: int
    eos_id: int
    pad_id: int
    max_length: int
    constraints: tuple[Constraint, ...]

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise ValueError(f"max_length counts eos and must be 1 or more, but got max_length={self.max_length}.")

    def start(self, state: Nest) -> "Start":
        """Check the model by a first call, and return what is known before the first token."""
        state = keras.tree.map_structure(ops.convert_to_tensor, state)
        batch = batch_of(state)
        tokens = ops.full((batch,), self.bos_id, dtype="int32")
        logits, new_state, alignments = self.call_step(tokens, state)
        check_state(state, new_state)
        vocabulary_size = logits.shape[-1]
        check_token("eos_id", self.eos_id, vocabulary_size)
        initial = tuple(x.initial_state(batch, vocabulary_size, self.max_length) for x in self.constraints)
        source_time = None if alignments is None else ops.shape(alignments)[1]
        return Start(batch, tokens, Carried(state, initial), source_time)

    def predict(self, tokens: Tensor, last: Tensor, length: Tensor, carried: Carried) -> Predicted:
        """Return what comes after `tokens` `(rows, max_length)`, of which `length` are real and the last is `last`."""
        logits, state, alignments = self.call_step(last, carried.model)
        log_probabilities = ops.maximum(ops.log_softmax(ops.cast(logits, "float32"), axis=-1), LOG_ZERO)
        prefix = Prefix(tokens, last, length, self.eos_id)
        states = []
        for constraint, constraint_state in zip(self.constraints, carried.constraints, strict=True):
            log_probabilities, new_state = constraint(log_probabilities, prefix, constraint_state)
            states.append(like(constraint_state, new_state))
        return Predicted(log_probabilities, Carried(like(carried.model, state), tuple(states)), alignments)

    def call_step(self, tokens: Tensor, state: Nest) -> tuple[Tensor, Nest, Tensor | None]:
        """Call the step, and return `(logits, state, alignments or None)`."""
        arguments = (tokens, state) if self.memory is None else (tokens, state, self.memory)
        outputs = self.step(*arguments)
        if not isinstance(outputs, tuple | list) or len(outputs) not in (2, 3):
            raise ValueError(
                "A step must return (logits, state) or (logits, state, alignments), but it returned "
                + (f"{len(outputs)} values." if isinstance(outputs, tuple | list) else f"a {type(outputs).__name__}.")
            )
        logits, new_state, alignments = (*outputs, None) if len(outputs) == 2 else outputs
        check_matrix("logits", logits, "(rows, vocabulary), with a static vocabulary", static_last=True)
        if alignments is not None:
            check_matrix("alignments", alignments, "(rows, source_time)")
            alignments = ops.cast(alignments, "float32")
        return logits, new_state, alignments


class Start(NamedTuple):
    """What is known before the first token.

    Attributes:
        batch: The number of rows of the initial state, an int or an int32 scalar.
        last: int32 `(batch,)`, bos.
        carried: The initial states, with the batch first.
        source_time: The length of the alignments, an int or an int32 scalar; None if the step gives none.
    """

    batch: int | Tensor
    last: Tensor
    carried: Carried
    source_time: int | Tensor | None


def batch_of(state: Nest) -> int | Tensor:
    """Return the number of rows of a nest of tensors with the rows first."""
    leaves = keras.tree.flatten(state)
    if not leaves:
        raise ValueError(
            "Decoding takes the batch from the state, but the state is empty. Give the step's initial state, or, for a "
            "step without state, any tensor with the batch first, such as ops.zeros((batch, 1))."
        )
    shapes = [tuple(leaf.shape) for leaf in leaves]
    if () in shapes:
        raise ValueError(
            f"The tensors of the state need the rows first, but they have shapes {shapes}. "
            "Give a scalar, such as a position, to every row: shape (batch,)."
        )
    return ops.shape(leaves[0])[0]


def check_token(name: str, token: int, vocabulary_size: int) -> None:
    """Raise if a token is outside the vocabulary."""
    if not 0 <= token < vocabulary_size:
        raise ValueError(
            f"{name}={token} is outside the vocabulary: the step's logits have {vocabulary_size} classes, so {name} "
            f"must be between 0 and {vocabulary_size - 1}."
        )


def check_matrix(name: str, tensor: Tensor, expected: str, *, static_last: bool = False) -> None:
    """Raise if what a step returned is not a matrix."""
    shape = tuple(tensor.shape)
    if len(shape) != 2 or (static_last and shape[-1] is None):
        raise ValueError(
            f"A step must return {name} of shape {expected}, but they have shape {shape}. "
            "tokens are (rows,), one for each hypothesis: there is no time dimension."
        )


def check_state(old: Nest, new: Nest) -> None:
    """Raise if a step's new state is not like the old one."""
    before, after = keras.tree.flatten(old), keras.tree.flatten(new)
    if len(before) != len(after) or not all(map(_is_like, before, after)):
        received, returned = ([(tuple(x.shape), str(x.dtype)) for x in leaves] for leaves in (before, after))
        raise ValueError(
            "A step must return a state with the structure, shapes and dtypes of the one it got. "
            f"It got {received} and returned {returned}."
        )


def _is_like(old: Tensor, new: Tensor) -> bool:
    def fits(a: int | None, b: int | None) -> bool:
        return a is None or b is None or a == b

    return old.dtype == new.dtype and len(old.shape) == len(new.shape) and all(map(fits, old.shape, new.shape))


def like(old: Nest, new: Nest) -> Nest:
    """Return the tensors of `new` in the structure of `old`: a step may turn a list into a tuple."""
    return keras.tree.pack_sequence_as(old, keras.tree.flatten(new))
