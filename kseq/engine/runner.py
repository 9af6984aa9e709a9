"""The entry point of the engine, which runs a cell over a sequence."""

import functools
from typing import Any

from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.engine.closure_check import first_step, refuse_gradients_of_captured
from kseq.engine.equations import State
from kseq.engine.inference_loop import run_inference, suits_inference_loop
from kseq.engine.recurrence import Recurrence, Rows
from kseq.engine.row_groups import RowGroups
from kseq.engine.stepwise_loop import run_stepwise


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
    if not (training or differentiable) and suits_inference_loop(cell, equations, inputs, state):
        options: dict[str, Any] = {"return_sequences": return_sequences, "unroll": unroll}
        again = functools.partial(run, cell, differentiable=True, **options)
        return run_inference(cell, equations, inputs, state, mask, again, **options)
    groups = RowGroups(equations, state, training)
    projected = [_tensors(each) for each in groups.project(equations, inputs, mask)]
    weights = _tensors(equations.weights(ops.shape(inputs)[1]))
    states, masks = groups.split(state, axis=0), groups.split(() if mask is None else mask, axis=1)
    rows = [Rows(*each) for each in zip(projected, states, masks, strict=True)]
    loop = Recurrence(equations, rows[0], return_sequences=return_sequences, unroll=unroll)
    results = backend.custom_gradient(
        loop.primal, loop.forward, loop.backward, (rows, weights), keep_residuals=training or differentiable
    )
    final = groups.join([final for _, final in results], axis=0)
    outputs = groups.join([outputs for outputs, _ in results], axis=1) if return_sequences else final[0]
    return refuse_gradients_of_captured(cell, *first_step(equations, rows[0], weights), (outputs, final))


def _tensors(nest: Any) -> Any:
    """Return the nest with variables converted to tensors, in the dtype that Keras computes in."""
    return tree.map_structure(ops.convert_to_tensor, nest)
