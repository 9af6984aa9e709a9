"""Long short-term memory with coupled input and forget gates."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells.lstm import LSTMCell, LSTMState
from kseq.initializers import GateBias


@keras.saving.register_keras_serializable(package="kseq")
class CoupledLSTMCell(LSTMCell):
    """Long short-term memory with coupled input and forget gates (CIFG): its input gate is `1 - f`.

        [f, g, o] = x W + b + h U
        c' = sigmoid(f) * c + (1 - sigmoid(f)) * tanh(g)
        h' = sigmoid(o) * tanh(c')

    It has three quarters of the weights and products of an LSTM, and no peepholes. The weights, in the order f, g, o,
    are: kernel W `(features, 3 units)`, recurrent_kernel U `(units, 3 units)`, bias b `(3 units,)`.

    Args:
        units: Units of the output and of the memory.
        **kwargs: Arguments of `keras.layers.LSTMCell`.

    Call arguments:
        inputs: Float `(batch, features)`.
        states: The hidden state h and the memory c, `(batch, units)` each.
        training: Whether dropout is on.

    Example:
        >>> cell = kseq.cells.CoupledLSTMCell(16)
        >>> output, (hidden, memory) = cell(np.zeros((2, 8)), cell.get_initial_state(2))
        >>> output.shape
        (2, 16)

    Reference: K. Greff et al., "LSTM: a search space odyssey", 2017.
    """

    additive = True

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(units, **kwargs)
        if self.implementation == 1:
            self.dropout_mask_count = 3  # one mask for each gate; Keras's cell has four

    def build(self, input_shape: tuple) -> None:
        """Create the weights."""
        self.check_bias()
        self.add_kernels(input_shape[-1], self.units, 3 * self.units)
        self.add_forget_bias(3 * self.units, forget_block=0)

    def check_bias(self) -> None:
        """Raise if the bias initializer is one for the four gates of an LSTM."""
        if self.use_bias and isinstance(self.bias_initializer, GateBias):
            raise ValueError(
                f"bias_initializer={type(self.bias_initializer).__name__} fills the biases of four gates, but "
                "CoupledLSTMCell has three. Pass an initializer that takes any shape."
            )

    def gates(self, projected: Tensor, recurrent: Tensor, state: tuple) -> LSTMState:
        """Return the new state; `projected` and `recurrent` are `(batch, 3 units)`."""
        _, cell = state
        f, g, o = ops.split(projected + recurrent, 3, axis=-1)  # each (batch, units)
        sigmoid, tanh = self.recurrent_activation, self.activation
        f = sigmoid(f)
        cell = f * cell + (1.0 - f) * tanh(g)
        return LSTMState(sigmoid(o) * tanh(cell), cell)
