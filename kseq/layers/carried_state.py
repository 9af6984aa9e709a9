"""The state that a stateful recurrent layer carries from one call to the next."""

from typing import Any

import keras
from keras import ops, tree


class CarriedState:
    """The variables of a stateful layer: its states, its last output, and whether its next call is the first.

    The first call uses the cell's initial state at the time of the call, not at the time the layer was built. A learned
    initial state is then used with its present value, also after loading, and gets a gradient.

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
        """All variables, as a flat list."""
        return [*tree.flatten(self.states), *tree.flatten(self.output), self.at_start]

    def begin(self, initial_state: Any) -> Any:
        """Return the state in which a call starts: `initial_state` in the first call, later the stored state."""
        at_start = ops.convert_to_tensor(self.at_start)
        initial = [ops.convert_to_tensor(x) for x in tree.flatten(initial_state)]
        kept = [
            ops.convert_to_tensor(x, like.dtype) for x, like in zip(tree.flatten(self.states), initial, strict=True)
        ]
        state = [ops.where(at_start, first, last) for first, last in zip(initial, kept, strict=True)]
        return tree.pack_sequence_as(initial_state, state)

    def last_output(self) -> Any:
        """Return the stored output, zeros before the first call."""
        return tree.map_structure(ops.convert_to_tensor, self.output)

    def keep(self, states: Any, output: Any) -> None:
        """Store the final states and the last output of a call."""
        kept = tree.flatten(self.states) + tree.flatten(self.output)
        for variable, value in zip(kept, tree.flatten(states) + tree.flatten(output), strict=True):
            variable.assign(ops.cast(value, variable.dtype))
        self.at_start.assign(False)

    def reset(self, states: Any, *, at_start: bool) -> None:
        """Set the states to `states`, and the output to zeros.

        Args:
            states: Nest of tensors `(batch, ...)`.
            at_start: Whether the next call is to use the cell's initial state instead.
        """
        for variable, value in zip(tree.flatten(self.states), tree.flatten(states), strict=True):
            variable.assign(ops.cast(value, variable.dtype))
        for variable in tree.flatten(self.output):
            variable.assign(ops.zeros(variable.shape, variable.dtype))
        self.at_start.assign(at_start)


def _variable(value: Any, name: str) -> keras.Variable:
    value = ops.convert_to_tensor(value)
    return keras.Variable(value, dtype=keras.backend.standardize_dtype(value.dtype), trainable=False, name=name)
