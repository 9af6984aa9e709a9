"""Long short-term memory with peepholes."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells.lstm import LSTMCell, LSTMState


@keras.saving.register_keras_serializable(package="kseq")
class PeepholeLSTMCell(LSTMCell):
    """Long short-term memory with peepholes: input and forget gates use the old memory, the output gate the new one.

        [i, f, g, o] = x W + b + h U
        c' = sigmoid(f + pf * c) * c + sigmoid(i + pi * c) * tanh(g)
        h' = sigmoid(o + po * c') * tanh(c')

    Holds the weights of `keras.layers.LSTMCell`, in its order i, f, g, o: kernel W `(features, 4 units)`,
    recurrent_kernel U `(units, 4 units)`, bias b `(4 units,)`; then the peepholes pi, pf and po, `(units,)` each. These
    are the weights of `tf.keras.experimental.PeepholeLSTMCell`, in its order.

    Args:
        units: Units of the output and of the memory.
        peephole_initializer: Initializer of the peepholes.
        **kwargs: Arguments of `keras.layers.LSTMCell`.

    Call arguments:
        inputs: Float `(batch, features)`.
        states: The hidden state h and the memory c, `(batch, units)` each.
        training: Whether dropout is on.

    Example:
        >>> cell = kseq.cells.PeepholeLSTMCell(16)
        >>> output, (hidden, memory) = cell(np.zeros((2, 8)), cell.get_initial_state(2))
        >>> output.shape
        (2, 16)

    Reference: F. Gers, J. Schmidhuber, "Recurrent nets that time and count", 2000.
    """

    additive = True

    def __init__(self, units: int, *, peephole_initializer: Any = "glorot_uniform", **kwargs: Any):
        super().__init__(units, **kwargs)
        self.peephole_initializer = keras.initializers.get(peephole_initializer)

    def build(self, input_shape: tuple) -> None:
        """Create the weights."""
        super().build(input_shape)
        self.input_peephole, self.forget_peephole, self.output_peephole = (
            self.add_weight(shape=(self.units,), name=f"{gate}_peephole", initializer=self.peephole_initializer)
            for gate in ("input", "forget", "output")
        )

    @property
    def gate_weights(self) -> tuple:
        """The peepholes pi, pf, po."""
        return self.input_peephole, self.forget_peephole, self.output_peephole

    def gates(
        self, projected: Tensor, recurrent: Tensor, state: tuple, pi: Tensor, pf: Tensor, po: Tensor
    ) -> LSTMState:
        """Return the new state; `projected` and `recurrent` are `(batch, 4 units)`, the peepholes `(units,)`."""
        _, cell = state
        i, f, g, o = ops.split(projected + recurrent, 4, axis=-1)  # each (batch, units)
        sigmoid, tanh = self.recurrent_activation, self.activation
        cell = sigmoid(f + pf * cell) * cell + sigmoid(i + pi * cell) * tanh(g)
        return LSTMState(sigmoid(o + po * cell) * tanh(cell), cell)

    @property
    def gates_gradient(self):
        """The hand-written gradient for the default activations; None for others."""
        return _gates_gradient if super().gates_gradient is not None else None

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        initializer = keras.initializers.serialize(self.peephole_initializer)
        return {**super().get_config(), "peephole_initializer": initializer}


def _gates_gradient(
    projected: Tensor, recurrent: Tensor, state: tuple, new_state: tuple, d_new: tuple, *peepholes: Tensor
) -> tuple:
    pi, pf, po = peepholes
    (_, cell), (_, new_cell), (d_hidden, d_cell) = state, new_state, d_new
    i, f, g, o = ops.split(projected + recurrent, 4, axis=-1)
    i, f, g, o = ops.sigmoid(i + pi * cell), ops.sigmoid(f + pf * cell), ops.tanh(g), ops.sigmoid(o + po * new_cell)
    tanh_cell = ops.tanh(new_cell)
    d_o = d_hidden * tanh_cell * o * (1.0 - o)
    d_cell = d_cell + d_hidden * o * (1.0 - ops.square(tanh_cell)) + d_o * po
    d_i = d_cell * g * i * (1.0 - i)
    d_f = d_cell * cell * f * (1.0 - f)
    d_g = d_cell * i * (1.0 - ops.square(g))
    d_sum = ops.concatenate([d_i, d_f, d_g, d_o], axis=-1)
    d_peepholes = d_i * cell, d_f * cell, d_o * new_cell
    return d_sum, d_sum, (None, d_cell * f + d_i * pi + d_f * pf), d_peepholes
