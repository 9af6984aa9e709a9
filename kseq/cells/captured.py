"""What a user's cell uses in its pieces without being given it."""

from typing import Any

import keras
from keras import ops, tree

from kseq import backend
from kseq.recurrence import Equations, State


def refuse_gradients_of_captured(
    cell: keras.layers.Layer,
    equations: Equations,
    arguments: tuple,
    results: Any,
) -> Any:
    """Return the results of a recurrence so that whoever asks for a gradient of what its pieces captured gets an error.

    The engine's gradient is that of the arguments. On TensorFlow nothing would say that it lacks other tensors'; JAX
    refuses by itself.

    Args:
        cell: Whose equations they are. Those of kseq use nothing but their arguments.
        equations: The pieces.
        arguments: `(projected, state, (recurrent weights, gate weights))`, as `recurrence` takes them. The rows of the
            projections need not be all rows.
        results: A nest of tensors.
    """
    if all(type(layer).__module__.startswith(("kseq.", "keras.")) for layer in cell._flatten_layers()):
        return results

    def step(projected: Any, state: State, weights: tuple) -> Any:
        recurrent_weights, gate_weights = weights
        recurrent = equations.recur(state[0], recurrent_weights)
        if equations.additive:
            projected, recurrent = projected + recurrent, 0.0
        return tuple(equations.gates(projected, recurrent, state, *gate_weights))

    projected, state, weights = arguments
    first = tree.map_structure(lambda x: x[0], projected)
    state = tuple(x[: ops.shape(tree.flatten(first)[0])[0]] for x in state)
    smooth, _ = backend.captured(step, (first, state, weights), [])
    if not smooth:
        return results
    message = (
        f"The gates (or recur) of {type(cell).__name__} use tensors that are not among their arguments, of shapes "
        f"{[tuple(x.shape) for x in smooth]}: no gradient reaches them. Return them from gate_weights, or add them in "
        "project; keras.ops.stop_gradient says that none is wanted."
    )
    return backend.custom_gradient(
        lambda results, _: results,
        lambda results, captured: (results, captured),
        lambda captured, d_results: (d_results, tree.map_structure(ops.zeros_like, captured)),
        (results, backend.prevent_gradient(smooth, message)),
        keep_residuals=True,
    )
