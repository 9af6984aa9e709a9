"""The loop for cells that are known by their `call` alone: any Keras cell, inputs and outputs of any structure."""

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
    """Take all steps of a cell by its `call`. Time comes first. Gradients are the backend's own.

    At a masked step the state is held, and the output is that of the step before; zeros at first.

    Args:
        cell: A Keras layer, or another object with `call(inputs, states) -> (output, new states)`.
        inputs: Tensor, or nest of tensors, `(time, batch, ...)`, finite in the padding.
        state: Nest of tensors `(batch, ...)`.
        mask: Bool `(time, batch)`, True at real steps; None when all are.
        return_sequences: Whether to return the outputs of all steps, or the last one's.
        unroll: Write the steps out instead of looping.
        training: Passed to cells whose `call` takes it.

    Returns:
        `(outputs, final state)`: outputs as the cell's, `(time, batch, ...)`, or the last `(batch, ...)`.
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
    """Take all steps by a function of one step, which may assign `variables`; otherwise as `run_stepwise`."""
    # One step ahead of the loop shows the outputs' structure, and has a cell create outside the loop what it creates
    # once for all steps: weights of layers in it, dropout masks. Its values are not used.
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
    """Return a function of one step of the cell."""
    options = {"training": training} if "training" in inspect.signature(cell.call).parameters else {}
    call: Any = cell if callable(cell) else cell.call

    def take(inputs: Any, state: Any) -> tuple[Any, Any]:
        output, new = call(inputs, list(state), **options)
        return output, tree.pack_sequence_as(state, tree.flatten(new))

    return take


class SymbolicStep(keras.Operation):
    """One step of a cell from its initial state, to learn the shapes and types of its output and states.

    Args:
        cell: As `run_stepwise` takes it.
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
    """Choose by row: `mask` bool `(batch,)`, the others nests of `(batch, ...)`."""
    return tree.map_structure(lambda a, b: ops.where(align_mask(mask, a), a, b), real, padding)
