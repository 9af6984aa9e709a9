"""The loop that runs any Keras cell by its `call`, with inputs and outputs of any structure."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.masking import align_mask

Step = Callable[[Any, Any], tuple[Any, Any]]  # (inputs, state) -> (output, new state of the same structure)


def run_stepwise(
    cell: Any,
    inputs: Any,
    state: tuple,
    mask: Tensor | None = None,
    *,
    return_sequences: bool = True,
    unroll: bool = False,
    training: bool = False,
) -> tuple[Any, tuple]:
    """Run a cell over a sequence by its `call`, with the backend's own gradient. All tensors are time-major.

    At a masked step the state is held, and the output is that of the step before, or zeros at the first step.

    Args:
        cell: A Keras layer, or another object with `call(inputs, states) -> (output, new states)`.
        inputs: Tensor, or nest of tensors, `(time, batch, ...)`, finite in the padding.
        state: Nest of tensors `(batch, ...)`.
        mask: Bool `(time, batch)`, True at real steps; None if all steps are real.
        return_sequences: Whether to return the outputs of all steps, or only the last output.
        unroll: Unroll the loop.
        training: Passed to cells whose `call` takes it.

    Returns:
        `(outputs, final state)`: outputs `(time, batch, ...)` in the structure of the cell's output, or the last one
        `(batch, ...)`.
    """
    variables = getattr(cell, "non_trainable_variables", [])
    take = step_function(cell, training)
    return loop(take, inputs, state, mask, variables, return_sequences=return_sequences, unroll=unroll)


def loop(
    take: Step,
    inputs: Any,
    state: tuple,
    mask: Tensor | None,
    variables: list,
    *,
    return_sequences: bool,
    unroll: bool,
) -> tuple[Any, tuple]:
    """Run a step function, which may assign `variables`, over a sequence; otherwise like `run_stepwise`."""
    # A step before the loop shows the structure of the outputs. It also makes the cell create, outside the loop, what
    # it creates once for all steps: weights of layers in it, dropout masks. Its values are not used.
    like, _ = take(tree.map_structure(lambda x: x[0], inputs), state)

    def step(carry: Any, at: Any) -> tuple[tuple, Any]:
        (before, held), (inputs, real) = carry, at
        output, after = take(inputs, before)
        if mask is not None:
            output, after = _where(real, output, held), _where(real, after, before)
        return (after, output), output if return_sequences else ()

    (final, last), outputs = backend.stateful_scan(
        step,
        (state, tree.map_structure(ops.zeros_like, like)),
        (inputs, () if mask is None else mask),
        variables,
        unroll=unroll,
        like=lambda: like if return_sequences else (),
    )
    return (outputs if return_sequences else last), final


def step_function(cell: Any, training: bool) -> Step:
    """Return the function that takes one step of the cell."""
    options = {"training": training} if "training" in inspect.signature(cell.call).parameters else {}
    call: Any = cell if callable(cell) else cell.call

    def take(inputs: Any, state: Any) -> tuple[Any, Any]:
        output, new = _pair(cell, call(inputs, list(state), **options))
        return output, tree.pack_sequence_as(state, _alike(cell, tree.flatten(new), tree.flatten(state)))

    return take


def _pair(cell: Any, result: Any) -> tuple[Any, Any]:
    """Return what a cell's `call` returned, or raise ValueError if it is no pair."""
    if isinstance(result, tuple | list) and len(result) == 2:
        return result[0], result[1]
    came = f"{len(result)} values" if isinstance(result, tuple | list) else f"a {type(result).__name__}"
    raise ValueError(f"{type(cell).__name__}.call must return (output, [new states]), but it returned {came}.")


def _alike(cell: Any, new: list, before: list) -> list:
    """Return a cell's new states, or raise ValueError if their number or shapes differ from those before the step."""
    shapes, expected = ([tuple(each.shape) for each in states] for states in (new, before))
    fit = len(shapes) == len(expected) and all(
        len(a) == len(b) and all(m is None or n is None or m == n for m, n in zip(a, b, strict=True))
        for a, b in zip(shapes, expected, strict=True)
    )
    if fit:
        return new
    raise ValueError(
        f"{type(cell).__name__}.call returned new states of shapes {shapes}, but it was given states of shapes "
        f"{expected}. `states` is a list with one tensor for each entry of state_size, and so must be the new states."
    )


class SymbolicStep(keras.Operation):
    """One step of a cell from its initial state, used to infer the shapes and dtypes of its output and states.

    Args:
        cell: As in `run_stepwise`.
        get_initial_state: `batch size -> state`.
    """

    def __init__(self, cell: Any, get_initial_state: Callable[[Any], list]):
        super().__init__()
        self._cell, self._get_initial_state = cell, get_initial_state

    def call(self, inputs: Any) -> tuple[Any, list]:
        """Return `(output, state)`."""
        state = self._get_initial_state(ops.shape(tree.flatten(inputs)[0])[0])
        output, _ = step_function(self._cell, False)(inputs, state)
        return output, state


def _where(mask: Tensor, real: Any, padding: Any) -> Any:
    """Return `real` in rows where `mask`, bool `(batch,)`, is True, else `padding`, both nests of `(batch, ...)`."""
    return tree.map_structure(lambda a, b: ops.where(align_mask(mask, a), a, b), real, padding)
