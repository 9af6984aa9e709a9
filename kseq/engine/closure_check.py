"""A check for tensors that a cell's functions use but do not receive as arguments, whose gradients would be lost."""

from typing import Any

import keras
from keras import tree

from kseq import backend
from kseq.engine.equations import Equations

OURS = ("kseq.", "keras.")  # modules whose functions use only their arguments


def refuse_gradients_of_captured(cell: keras.layers.Layer, step: Any, arguments: tuple, results: Any) -> Any:
    """Return `results`, for which the gradient of a tensor that the cell's functions captured raises an error.

    The engine differentiates the functions with respect to their arguments only. TensorFlow would give captured tensors
    no gradient, without an error; JAX raises an error by itself.

    Args:
        cell: The cell. kseq's own cells are not checked: their functions use only their arguments.
        step: A function of `arguments` that calls the cell's functions once.
        arguments: Nests of tensors.
        results: A nest of tensors.
    """
    if is_ours(cell):
        return results
    captured = backend.captured(step, arguments)
    if not captured:
        return results
    message = (
        f"The gates (or recur, coefficients or activation) of {type(cell).__name__} use tensors that are not among "
        f"their arguments, of shapes {[tuple(x.shape) for x in captured]}, so they get no gradient. Return them from "
        "gate_weights, or use them in project. If they need no gradient, set them to keras.ops.stop_gradient(tensor)."
    )
    return backend.custom_gradient(
        lambda results, _: results,
        lambda results, captured: (results, captured),
        lambda captured, d_results: (d_results, tree.map_structure(keras.ops.zeros_like, captured)),
        (results, backend.prevent_gradient(captured, message)),
        keep_residuals=True,
    )


def first_step(equations: Equations, rows: Any, weights: Any) -> tuple[Any, tuple]:
    """Return the function that takes one step by a cell's equations, and its arguments at the first step.

    Args:
        equations: The cell's equations.
        rows: `kseq.engine.recurrence.Rows`.
        weights: `kseq.engine.Weights`.
    """

    def step(projected: Any, state: tuple, weights: Any) -> Any:
        recurrent = equations.recur(state[0], weights.recurrent)
        if equations.additive:
            projected, recurrent = projected + recurrent, 0.0
        return tuple(equations.gates(projected, recurrent, state, *weights.gates))

    return step, (tree.map_structure(lambda x: x[0], rows.projected), rows.state, weights)


def is_ours(cell: keras.layers.Layer) -> bool:
    """Return whether a cell, the layers in it and their activations are all defined in kseq or Keras."""
    return all(map(_is_ours, cell._flatten_layers()))


def _is_ours(layer: keras.layers.Layer) -> bool:
    activations = [getattr(layer, name, None) for name in ("activation", "recurrent_activation")]
    sources = [type(layer), *(each for each in activations if each is not None)]
    # A function with `__wrapped__` may be a user's, with the module of the function that it wraps.
    return all(
        str(getattr(source, "__module__", "")).startswith(OURS) and not hasattr(source, "__wrapped__")
        for source in sources
    )
