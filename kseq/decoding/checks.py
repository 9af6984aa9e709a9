"""Checks of steps, their outputs and shapes."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import LOG_ZERO, Constraint, Nest, ScoredStepOutput, StepOutput
from kseq.numbers import ids, whole


def shapes_fit(shape: Sequence, expected: Sequence) -> bool:
    """Return whether two shapes have one rank and equal sizes, as far as both are known: None and tensors fit any."""

    def fits(a: object, b: object) -> bool:
        return not isinstance(a, int) or not isinstance(b, int) or a == b

    return len(shape) == len(expected) and all(map(fits, shape, expected))


def read_step(outputs: object) -> StepOutput | ScoredStepOutput:
    """Return the output of a step as a `StepOutput`, or a scored one: logits and state as they are, others float32."""
    scored = isinstance(outputs, ScoredStepOutput)
    if not isinstance(outputs, tuple | list) or len(outputs) not in (2, 3, 4, *(5,) * scored):
        raise ValueError(
            "A step must return (logits, state), (logits, state, alignments) or (logits, state, alignments, hidden), "
            "but it returned "
            + (f"{len(outputs)} values." if isinstance(outputs, tuple | list) else f"a {type(outputs).__name__}.")
        )
    output: Any = outputs if scored else StepOutput(*outputs)
    check_matrix("logits", output.logits, "(rows, vocabulary), with a static vocabulary", static_last=True)
    extras = {"alignments": "(rows, source_time)", "hidden": "(rows, units)"}
    extras |= {"scores": "(rows, vocabulary)"} if scored else {}
    for name, expected in extras.items():
        value = getattr(output, name)
        if value is not None:
            check_matrix(name, value, expected)
            output = output._replace(**{name: ops.cast(value, "float32")})
    return output


def call_step(step: Callable, tokens: Tensor, state: Nest, memory: Nest) -> StepOutput | ScoredStepOutput:
    """Call a step, with the memory if there is one, and return its output, see `read_step`."""
    return read_step(step(tokens, state) if memory is None else step(tokens, state, memory))


def log_probabilities_of(output: StepOutput | ScoredStepOutput) -> Tensor:
    """Return the next token's log-probabilities, or the scores in their place, float32 `(rows, vocabulary)`."""
    if isinstance(output, ScoredStepOutput):
        return ops.maximum(output.scores, LOG_ZERO)
    return ops.maximum(ops.log_softmax(ops.cast(output.logits, "float32"), axis=-1), LOG_ZERO)


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


def read_ends(eos_id: Any) -> tuple[int, ...]:
    """Return the tokens that end a hypothesis, ascending, of one token or several."""
    several = isinstance(eos_id, Iterable) and getattr(eos_id, "shape", None) != ()
    ends = ids("eos_id", eos_id).tolist() if several else [whole("eos_id", eos_id)]
    if not ends:
        raise ValueError("eos_id must be a token or several, but got none. Without one nothing could end.")
    return tuple(sorted(set(ends)))


def check_token(name: str, token: int, vocabulary_size: int) -> None:
    """Raise if a token is outside the vocabulary."""
    if not 0 <= token < vocabulary_size:
        raise ValueError(
            f"{name}={token} is outside the vocabulary: the step's logits have {vocabulary_size} classes, so {name} "
            f"must be between 0 and {vocabulary_size - 1}."
        )


def check_matrix(name: str, tensor: Tensor, expected: str, *, static_last: bool = False) -> None:
    """Raise if an output of a step is not a matrix."""
    shape = tuple(tensor.shape)
    if len(shape) != 2 or (static_last and shape[-1] is None):
        raise ValueError(
            f"A step must return {name} of shape {expected}, but they have shape {shape}. "
            "tokens are (rows,), one for each hypothesis: there is no time dimension."
        )


def checked_constraints(constraints: Any) -> tuple[Constraint, ...]:
    """Return the constraints of a strategy as a tuple, or raise if they are no constraints."""
    if isinstance(constraints, Constraint):
        raise TypeError(f"constraints must be a tuple, but got a {type(constraints).__name__} alone. Write (it,).")
    made = tuple(constraints)
    for each in made:
        if isinstance(each, type) or not hasattr(each, "initial_state"):
            raise TypeError(
                f"constraints must be objects of kseq.decoding.constraints or of your own subclasses of Constraint, "
                f"but {each!r} is among them."
            )
    return made


def check_state(old: Nest, new: Nest) -> None:
    """Raise if a step's new state differs from the old one in structure, shapes or dtypes."""
    before, after = keras.tree.flatten(old), keras.tree.flatten(new)
    if len(before) != len(after) or not all(
        a.dtype == b.dtype and shapes_fit(a.shape, b.shape) for a, b in zip(before, after, strict=True)
    ):
        received, returned = ([(tuple(x.shape), str(x.dtype)) for x in leaves] for leaves in (before, after))
        raise ValueError(
            "A step must return a state with the structure, shapes and dtypes of the one it got. "
            f"It got {received} and returned {returned}."
        )


def like(old: Nest, new: Nest) -> Nest:
    """Return the tensors of `new` in the structure of `old`: a step may turn a list into a tuple."""
    return keras.tree.pack_sequence_as(old, keras.tree.flatten(new))
