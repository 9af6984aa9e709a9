"""The contract of a recurrent cell."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.linear import dense
from kseq.recurrence import Equations, State, as_state


class Cell(keras.layers.Layer):
    """One step of a recurrence, in three pieces from which whole sequences are run and differentiated fast.

    A subclass writes the weights in `build`, sets `state_size` and `output_size`, and gives

    - `project(inputs)`: all that does not depend on the state, for all time steps in one product;
    - `recur(hidden, recurrent_weights)`: the linear map of the previous hidden state;
    - `gates(projected, recurrent, state, *gate_weights)`: the element-wise rest, returning the new state, whose first
      element is the output.

    It is a Keras cell as well (`call`, `get_initial_state`): `keras.layers.RNN` runs it, step by step.

    Attributes:
        state_size: Units of each state tensor: an int, or a list of ints.
        output_size: Units of the output, an int.
        gates_gradient: None, or a hand-written gradient of `gates`, see `kseq.recurrence.Equations`.

    Example:
        >>> class MinimalCell(kseq.cells.Cell):
        ...     def __init__(self, units, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.state_size = self.output_size = units
        ...     def build(self, input_shape):
        ...         self.kernel = self.add_weight(shape=(input_shape[-1], self.state_size), name="kernel")
        ...         self.recurrent_kernel = self.add_weight(shape=(self.state_size,) * 2, name="recurrent_kernel")
        ...     def gates(self, projected, recurrent, state):
        ...         return (ops.tanh(projected + recurrent),)
        >>> kseq.layers.RNN(MinimalCell(32))(np.zeros((4, 10, 8))).shape
        (4, 32)
    """

    gates_gradient: Callable[..., tuple] | None = None

    def drop_inputs(self, inputs: Tensor, training: bool) -> Tensor:
        """Return the inputs that `project` takes, `(..., features)`; a cell with dropout on them drops some here."""
        del training
        return inputs

    def project(self, inputs: Tensor) -> Tensor:
        """Return `inputs @ kernel + bias`, `(..., features)` to `(..., projected)`."""
        projected = dense(inputs, self.kernel)
        bias = getattr(self, "bias", None)
        return projected if bias is None else ops.add(projected, bias)

    @property
    def recurrent_weights(self) -> Any:
        """What `recur` takes: a tensor or a nest of tensors."""
        return self.recurrent_kernel

    def recur(self, hidden: Tensor, recurrent_weights: Any) -> Tensor:
        """Return the linear (or affine) map of `hidden` `(rows, units)`. Uses nothing but its arguments."""
        return ops.matmul(hidden, recurrent_weights)

    @property
    def gate_weights(self) -> tuple:
        """Further tensors that `gates` takes, such as the gains of a layer normalisation."""
        return ()

    def gates(self, projected: Tensor, recurrent: Tensor, state: State, *gate_weights: Tensor) -> State:
        """Return the new state, its first element the output. Uses no tensor but its arguments."""
        raise NotImplementedError(f"{type(self).__name__} must define gates(projected, recurrent, state).")

    def is_separable(self, training: bool) -> bool:
        """Whether the three pieces say all of what the cell does; else its steps are run one by one by `call`."""
        del training
        return True

    def equations(self) -> Equations:
        """Return the pure functions of this cell for `kseq.recurrence.recurrence`."""
        return Equations(self.recur, self.gates, self.gates_gradient)

    def call(self, inputs: Tensor, states: State, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Take one step.

        Args:
            inputs: `(batch, features)`.
            states: List or tuple of the previous state's tensors, `(batch, units)` each.
            training: Whether dropout is on.

        Returns:
            `(output (batch, output_size), new states)`.
        """
        state = tuple(states) if isinstance(states, list | tuple) else (states,)
        projected = self.project(self.drop_inputs(inputs, training))
        recurrent = self.recur(state[0], self.recurrent_weights)
        new = self.gates(projected, recurrent, state, *self.gate_weights)
        new = as_state(new, like=state)
        return new[0], list(new)

    def get_initial_state(self, batch_size: int | Tensor | None = None) -> list[Tensor]:
        """Return zeros, `(batch_size, units)` for each state tensor."""
        sizes = self.state_size if isinstance(self.state_size, list | tuple) else [self.state_size]
        return [ops.zeros((batch_size, size), dtype=self.compute_dtype) for size in sizes]
