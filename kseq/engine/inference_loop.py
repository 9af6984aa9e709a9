"""The loop for inference with small steps, which projects the inputs of each step inside the loop."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.engine.closure_check import is_ours
from kseq.engine.equations import Equations, State
from kseq.engine.stepwise_loop import loop

USUAL_ROWS = 32  # of a batch whose size is unknown


def suits_inference_loop(cell: Any, equations: Equations, inputs: Tensor, state: State) -> bool:
    """Return whether this loop is faster for these shapes, and cannot change an answer.

    The cell must be of kseq: its steps at inference assign no variable, draw no random number, and use no tensor but
    their arguments and the cell's variables.
    """
    if not (equations.projects_rows_apart and equations.output_is_state and is_ours(cell)):
        return False
    rows = (state[0].shape[0] or USUAL_ROWS) * math.prod(size or 1 for size in state[0].shape[1:-1])
    weights = tree.flatten(equations.weights(1).recurrent)
    multiplications = rows * sum(math.prod(w.shape) for w in weights)
    if backend.projects_ahead(multiplications, inputs.shape[-1] / state[0].shape[-1]):
        return False
    # Weights of two precisions would not be the same to this loop and to the one that gives the gradient.
    return cell.compute_dtype == cell.variable_dtype or backend.differentiates_loops()


def run_inference(
    cell: Any,
    equations: Equations,
    inputs: Tensor,
    state: State,
    mask: Tensor | None,
    again: Callable[..., tuple[Tensor, State]],
    *,
    return_sequences: bool,
    unroll: bool,
) -> tuple[Tensor, State]:
    """Take all steps; arguments and results are those of `kseq.engine.run`.

    Around small products the overhead of a step dominates, and this loop has the least. Differentiated by TensorFlow it
    would take time squared under XLA. Where a gradient is asked for, `again(inputs, state, mask)`, the same run in the
    loop that has a gradient of its own, is differentiated in its place.
    """

    def take(inputs: Tensor, state: State) -> tuple[Tensor, State]:
        new = equations.step(inputs, state)
        return new[0], new

    def light(inputs: Tensor, state: State, mask: Tensor | None) -> tuple[Tensor, State]:
        return loop(take, inputs, state, mask, [], return_sequences=return_sequences, unroll=unroll)

    if backend.differentiates_loops():
        return light(inputs, state, mask)
    variables = [v for v in cell.variables if keras.backend.is_float_dtype(v.dtype)]

    def with_weights(run: Callable, inputs: Tensor, state: State, mask: Any, weights: list) -> tuple[Tensor, State]:
        with keras.StatelessScope(state_mapping=zip(variables, weights, strict=True)):
            return run(inputs, state, None if isinstance(mask, tuple) else mask)

    def primal(*arguments: Any) -> tuple[Tensor, State]:
        return with_weights(light, *arguments)

    def gradient(arguments: tuple, cotangents: Any) -> tuple:
        inputs, state, mask, weights = arguments

        _, pullback = backend.vector_jacobian_product(
            lambda inputs, state, weights: with_weights(again, inputs, state, mask, weights), inputs, state, weights
        )
        d_inputs, d_state, d_weights = pullback(cotangents)
        return d_inputs, d_state, () if isinstance(mask, tuple) else None, d_weights

    weights = [ops.convert_to_tensor(v) for v in variables]
    return backend.custom_gradient(
        primal,
        lambda *arguments: (primal(*arguments), arguments),
        gradient,
        (inputs, state, () if mask is None else mask, weights),
        keep_residuals=False,
    )
