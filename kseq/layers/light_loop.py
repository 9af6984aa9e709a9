"""The loop of small steps where no gradient is likely to follow."""

from typing import Any

import keras
from keras import ops

from kseq import backend
from kseq.backend import Tensor
from kseq.cells import Cell
from kseq.layers.plain_loop import run_steps, step_function


def run_light_steps(
    cell: Cell,
    inputs: Tensor,
    state: tuple,
    mask: Tensor | None = None,
    *,
    return_sequences: bool = True,
    **options: Any,
) -> tuple[Tensor, tuple]:
    """Take all steps of a cell one by one, like `run_steps`, and have the gradient made by the engine, if ever.

    A step that projects its own inputs has little around its products: for small ones that counts for more than all
    that the engine saves. Its gradient by the backend would take time squared under XLA.

    A cell that assigns variables in its step, draws random numbers there for example, or uses tensors that it was not
    given, is run by the engine, which projects the inputs outside of anything that has a gradient of its own.

    Args:
        cell: A cell that the engine knows.
        inputs: `(time, batch, features)`, finite in the padding.
        state: Tuple of tensors `(batch, ...)`.
        mask: Bool `(time, batch)`, True at real steps; None when all are.
        return_sequences: Whether to return the outputs of all steps, or the last one's.
        **options: `unroll` and `training` of `run_steps`.

    Returns:
        `(outputs, final state)` as of `Cell.run`.
    """
    if not _is_self_contained(cell, inputs[0], tuple(state), bool(options.get("training"))):
        return cell.run(inputs, state, mask, return_sequences=return_sequences, **options)
    if backend.differentiates_loops():
        return run_steps(cell, inputs, state, mask, return_sequences=return_sequences, **options)
    variables = [v for v in cell.variables if keras.backend.is_float_dtype(v.dtype)]

    def run_by(loop: Any, *arguments: Any) -> tuple[Tensor, tuple]:
        inputs, state, weights, mask = arguments
        with keras.StatelessScope(state_mapping=zip(variables, weights, strict=True)):
            mask = None if isinstance(mask, tuple) else mask
            return loop(inputs, state, mask, return_sequences=return_sequences, **options)

    def light(*arguments: Any) -> tuple[Tensor, tuple]:
        return run_by(lambda *args, **kwargs: run_steps(cell, *args, **kwargs), *arguments)

    def gradient(arguments: tuple, cotangents: Any) -> tuple:
        mask = arguments[-1]
        _, pullback = backend.vector_jacobian_product(lambda *given: run_by(cell.run, *given, mask), *arguments[:-1])
        return *pullback(cotangents), () if isinstance(mask, tuple) else None

    weights = [ops.convert_to_tensor(v) for v in variables]
    arguments = (inputs, tuple(state), weights, () if mask is None else mask)
    return backend.custom_gradient(
        light, lambda *given: (light(*given), given), gradient, arguments, keep_residuals=False
    )


def _is_self_contained(cell: Cell, step_inputs: Tensor, state: tuple, training: bool) -> bool:
    """Whether a step of a cell assigns no variable, and uses nothing but its arguments and the cell's variables.

    What a cell makes at its first step, weights of layers in it, is made here.
    """
    known = cell.variables if backend.differentiates_loops() else []  # JAX: a scope around may hold their values
    with keras.StatelessScope(state_mapping=[(v, ops.convert_to_tensor(v)) for v in known]) as scope:
        before = dict(scope.state_mapping)
        used = backend.captured(step_function(cell, training), (step_inputs, state), cell.variables)
    return not any(used) and all(before.get(key) is value for key, value in scope.state_mapping.items())
