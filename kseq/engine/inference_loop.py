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

USUAL_ROWS = 32  # assumed for a batch of unknown size


def suits_inference_loop(cell: Any, equations: Equations, inputs: Tensor, state: State) -> bool:
    """Return whether this loop is faster for these shapes and certain to give the same results.

    Only kseq's own cells qualify: at inference their steps assign no variables, draw no random numbers, and use no
    tensors except their arguments and the cell's variables.
    """
    if not (equations.projects_rows_apart and equations.output_is_state and is_ours(cell)):
        return False
    rows = (state[0].shape[0] or USUAL_ROWS) * math.prod(size or 1 for size in state[0].shape[1:-1])
    weights = tree.flatten(equations.weights(1).recurrent)
    multiplications = rows * sum(math.prod(w.shape) for w in weights)
    if backend.projects_ahead(rows, multiplications, inputs.shape[-1] / state[0].shape[-1]):
        return False
    # With mixed precision, this loop and the one that gives the gradient would use weights of different precision.
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
    """Run all steps. Arguments and results are those of `kseq.engine.run`.

    This loop has the least overhead in each step, which dominates when the products are small. TensorFlow's gradient of
    it would take quadratic time under XLA. If a gradient is asked for, `again(inputs, state, mask)` is differentiated
    in its place: the same run in the loop with a hand-written backward pass.
    """

    def take(inputs: Tensor, state: State) -> tuple[Tensor, State]:
        new = equations.step(inputs, state)
        return new[0], new

    def once(inputs: Tensor, state: State, mask: Tensor | None) -> tuple[Tensor, State]:
        return loop(take, inputs, state, mask, [], return_sequences=return_sequences, unroll=unroll)

    if backend.differentiates_loops():
        return once(inputs, state, mask)
    variables = [v for v in cell.variables if keras.backend.is_float_dtype(v.dtype)]

    def with_weights(run: Callable, inputs: Tensor, state: State, mask: Any, weights: list) -> tuple[Tensor, State]:
        with keras.StatelessScope(state_mapping=zip(variables, weights, strict=True)):
            return run(inputs, state, None if isinstance(mask, tuple) else mask)

    def primal(*arguments: Any) -> tuple[Tensor, State]:
        return with_weights(once, *arguments)

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
