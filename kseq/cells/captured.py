"""What a user's cell, or a user's activation in it, uses in its pieces without being given it."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from kseq import backend
from kseq.equations import Equations, State

OURS = ("kseq.", "keras.")  # modules whose functions use nothing but their arguments


def refuse_gradients_of_captured(cell: keras.layers.Layer, step: Callable, arguments: tuple, results: Any) -> Any:
    """Return the results of a recurrence so that whoever asks for a gradient of what its pieces captured gets an error.

    The engine's gradient is that of the arguments. On TensorFlow nothing would say that it lacks other tensors'; JAX
    refuses by itself.

    Args:
        cell: Whose pieces they are. Those of kseq use nothing but their arguments.
        step: What the pieces make of `arguments`.
        arguments: Nests of tensors.
        results: A nest of tensors.
    """
    if all(_is_ours(layer) for layer in cell._flatten_layers()):
        return results
    smooth, _ = backend.captured(step, arguments, [])
    if not smooth:
        return results
    message = (
        f"The gates (or recur, coefficients or activation) of {type(cell).__name__} use tensors that are not among "
        f"their arguments, of shapes {[tuple(x.shape) for x in smooth]}: no gradient reaches them. Return them from "
        "gate_weights, or add them in project; keras.ops.stop_gradient says that none is wanted."
    )
    return backend.custom_gradient(
        lambda results, _: results,
        lambda results, captured: (results, captured),
        lambda captured, d_results: (d_results, tree.map_structure(ops.zeros_like, captured)),
        (results, backend.prevent_gradient(smooth, message)),
        keep_residuals=True,
    )


def first_step(equations: Equations, projected: Any, state: State, weights: tuple) -> tuple[Callable, tuple]:
    """Return a step by a cell's equations, and the arguments of the first.

    Args:
        equations: The pieces.
        projected: As `recurrence` takes it. Its rows need not be all rows.
        state: As `recurrence` takes it.
        weights: `(recurrent weights, gate weights)`.
    """

    def step(projected: Any, state: State, weights: tuple) -> Any:
        recurrent_weights, gate_weights = weights
        recurrent = equations.recur(state[0], recurrent_weights)
        if equations.additive:
            projected, recurrent = projected + recurrent, 0.0
        return tuple(equations.gates(projected, recurrent, state, *gate_weights))

    first = tree.map_structure(lambda x: x[0], projected)
    return step, (first, tuple(x[: ops.shape(tree.flatten(first)[0])[0]] for x in state), weights)


def _is_ours(layer: keras.layers.Layer) -> bool:
    """Whether a layer is of kseq or Keras, and its activations are."""
    activations = [getattr(layer, name, None) for name in ("activation", "recurrent_activation")]
    sources = [type(layer), *(each for each in activations if each is not None)]
    return all(str(getattr(source, "__module__", "")).startswith(OURS) for source in sources)
