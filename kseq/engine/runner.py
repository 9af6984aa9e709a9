"""The entry point of the engine, which runs a cell over a sequence."""

import functools
from collections.abc import Hashable
from typing import Any

import keras
from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.compiled_parts import compiles_parts, equal_layers, is_remembered
from kseq.config import jit_compile, jit_compile_scope
from kseq.engine.closure_check import first_step, is_ours, refuse_gradients_of_captured
from kseq.engine.equations import State, Weights
from kseq.engine.inference_loop import run_inference, suits_inference_loop
from kseq.engine.padding import Padding
from kseq.engine.recurrence import Recurrence, Rows
from kseq.engine.row_groups import RowGroups
from kseq.engine.stepwise_loop import run_stepwise
from kseq.padded_sizes import STEPS, padded_size

FEWEST_STEPS = 4  # of a call outside graphs that is compiled; fewer take less time operation by operation


def run(
    cell: Any,
    inputs: Tensor,
    state: State,
    mask: Tensor | None = None,
    *,
    return_sequences: bool = True,
    unroll: bool = False,
    training: bool = False,
    differentiable: bool = False,
) -> tuple[Tensor, State]:
    """Run a cell over a sequence. All tensors are time-major.

    At a padding step (mask False) the state is held, and the output is that of the step before.

    Args:
        cell: A `kseq.cells.Cell`.
        inputs: `(time, batch, features)`, finite in the padding.
        state: Tuple of tensors, `(batch, units)` each.
        mask: Bool `(time, batch)`, True at real steps; None if all steps are real.
        return_sequences: Whether to return the outputs of all steps, or only the last output.
        unroll: Unroll the loop.
        training: True in training: dropout is on, and what a gradient needs is stored.
        differentiable: Whether to use the loop with a hand-written backward pass even where a faster loop exists.
            Gradients are correct either way.

    Returns:
        `(outputs, final state)`: outputs `(time, batch, output_size)`, or the last `(batch, output_size)`.
    """
    equations, state = cell.equations(training), tuple(state)
    if not equations.separable:
        return run_stepwise(
            cell, inputs, state, mask, return_sequences=return_sequences, unroll=unroll, training=training
        )
    cells = functools.cache(lambda: equal_layers(cell) if is_ours(cell) else None)
    compiles = (jit_compile() is True or (is_ours(cell) and _gains(state[0]))) and compiles_parts(
        lambda: [inputs, *state, *cell.trainable_variables],
        call=lambda: None if unroll else _call(cells(), inputs, (return_sequences, training, mask is not None)),
    )
    faster = not (training or differentiable or compiles)
    if faster and suits_inference_loop(cell, equations, inputs, state):
        options: dict[str, Any] = {"return_sequences": return_sequences, "unroll": unroll}
        again = functools.partial(_run_plain, cell, differentiable=True, **options)
        return run_inference(cell, equations, inputs, state, mask, again, **options)
    groups = RowGroups(equations, state, training)
    projected = [_tensors(each) for each in groups.project(equations, inputs, mask)]
    weights = _tensors(equations.weights(ops.shape(inputs)[1]))
    states, masks = groups.split(state, axis=0), groups.split(() if mask is None else mask, axis=1)
    rows = [Rows(*each) for each in zip(projected, states, masks, strict=True)]
    loop = Recurrence(equations, rows[0], return_sequences=return_sequences, unroll=unroll)
    keep_residuals = training or differentiable
    if compiles:
        results = _run_compiled(cells(), loop, rows, weights, training, keep_residuals)
    else:
        results = backend.custom_gradient(*loop.functions, (rows, weights, ()), keep_residuals=keep_residuals)
    final = groups.join([final for _, final in results], axis=0)
    outputs = groups.join([outputs for outputs, _ in results], axis=1) if return_sequences else final[0]
    return refuse_gradients_of_captured(cell, *first_step(equations, rows[0], weights), (outputs, final))


def _call(cells: Hashable, inputs: Tensor, options: Hashable) -> Any:
    """Return the kind and the padded sizes of a call outside graphs; None if it is not compiled."""
    steps, rows = inputs.shape[:2]
    if cells is None or steps < FEWEST_STEPS:
        return None
    return (cells, options), (padded_size(rows), padded_size(steps, STEPS), *inputs.shape[2:])


def _run_plain(*arguments: Any, **options: Any) -> tuple[Tensor, State]:
    """Do what `run` does without compiled parts: an export contains the gradient of an inference loop, too."""
    with jit_compile_scope(False):
        return run(*arguments, **options)


def _run_compiled(
    cells: Hashable, loop: Recurrence, rows: list[Rows], weights: Weights, training: bool, keep_residuals: bool
) -> list[tuple[Any, State]]:
    """Return the outputs (or ()) and the final state of each group, from loops that XLA compiles by themselves.

    The graph around them runs the loops of several groups at the same time, all with the same compiled code.

    Args:
        cells: What `equal_layers` returns for the cell; None if it shares its functions with no other.
        loop: The loop of the first group.
        rows: The groups.
        weights: The weights.
        training: Whether dropout is on.
        keep_residuals: Whether to store what a gradient needs.
    """
    kind = cells, loop.unroll, training, loop.masked, str(loop.smooth)
    if not loop.return_sequences and is_remembered((*kind, True)):
        # A layer below has made these. Unused outputs take less time than another compilation.
        loop = Recurrence(loop.equations, rows[0], return_sequences=True, unroll=loop.unroll)
    functions = loop.functions.compiled((*kind, loop.return_sequences) if cells else None)
    padding = Padding(rows, rows_apart=loop.equations.recurs_rows_apart)
    results = [
        backend.custom_gradient(
            *functions,
            ([group], weights, padding.length),
            keep_residuals=keep_residuals,
            differentiable=loop.functions[1:],
        )[0]
        for group in padding.pad()
    ]
    return padding.cut(results)


def _gains(state: Tensor) -> bool:
    """Return whether a compiled loop is the faster one for a state: not in low precision, nor with spatial axes.

    On a CPU, XLA takes several times as long as TensorFlow for products in bfloat16 and for convolutions.
    """
    return len(state.shape) == 2 and keras.backend.standardize_dtype(state.dtype) in ("float32", "float64")


def _tensors(nest: Any) -> Any:
    """Return the nest with variables converted to tensors, in the dtype that Keras computes in."""
    return tree.map_structure(ops.convert_to_tensor, nest)
