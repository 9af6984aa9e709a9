"""What a stateful recurrent layer carries from one call to the next."""

from typing import Any

import keras
from keras import ops, tree


class CarriedState:
    """The variables of a stateful layer: its states, its last output, and whether it is yet to start.

    A layer that is yet to start takes the cell's initial state as it is *then*, so that one that is learned, or was
    loaded after the layer was built, is used, and learns.

    Args:
        states: Nest of Keras variables `(batch, ...)`.
        output: The shapes and types of the layer's last output: a nest of KerasTensors `(batch, ...)`.
    """

    def __init__(self, states: Any, output: Any):
        self.states = states
        self.output = tree.map_structure(lambda x: _variable(ops.zeros(x.shape, x.dtype), "rnn_output"), output)
        self.at_start = _variable(True, "rnn_at_start")

    @property
    def variables(self) -> list:
        """All of them, flat."""
        return [*tree.flatten(self.states), *tree.flatten(self.output), self.at_start]

    def begin(self, initial_state: Any) -> Any:
        """Return the state to go on from: at the start `initial_state`, else what was kept."""
        at_start = ops.convert_to_tensor(self.at_start)
        initial = [ops.convert_to_tensor(x) for x in tree.flatten(initial_state)]
        kept = [
            ops.convert_to_tensor(x, like.dtype) for x, like in zip(tree.flatten(self.states), initial, strict=True)
        ]
        state = [ops.where(at_start, first, last) for first, last in zip(initial, kept, strict=True)]
        return tree.pack_sequence_as(initial_state, state)

    def last_output(self) -> Any:
        """Return the output that was kept, zeros at the start."""
        return tree.map_structure(ops.convert_to_tensor, self.output)

    def keep(self, states: Any, output: Any) -> None:
        """Keep what a call ended with."""
        kept = tree.flatten(self.states) + tree.flatten(self.output)
        for variable, value in zip(kept, tree.flatten(states) + tree.flatten(output), strict=True):
            variable.assign(ops.cast(value, variable.dtype))
        self.at_start.assign(False)

    def reset(self, states: Any, *, at_start: bool) -> None:
        """Set the states to `states` and forget the output. `at_start`: those are the cell's initial ones."""
        for variable, value in zip(tree.flatten(self.states), tree.flatten(states), strict=True):
            variable.assign(ops.cast(value, variable.dtype))
        for variable in tree.flatten(self.output):
            variable.assign(ops.zeros(variable.shape, variable.dtype))
        self.at_start.assign(at_start)


def _variable(value: Any, name: str) -> keras.Variable:
    value = ops.convert_to_tensor(value)
    return keras.Variable(value, dtype=keras.backend.standardize_dtype(value.dtype), trainable=False, name=name)
