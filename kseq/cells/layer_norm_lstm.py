"""Long short-term memory with layer normalisation."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells.layer_norm import normalise, standardise, standardise_gradient
from kseq.cells.lstm import LSTMCell, LSTMState, sum_gradient


@keras.saving.register_keras_serializable(package="kseq")
class LayerNormLSTMCell(LSTMCell):
    """Long short-term memory with layer normalisation of its two products and of its memory.

        [i, f, g, o] = LN(x W) * a1 + LN(h U) * a2 + b
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(LN(c') * a3 + b3)

        LN(v) = (v - mean(v)) / sqrt(variance(v) + epsilon)

    Mean and variance are taken over all `4 units` of x W and of h U, and over the `units` of c', in float32 at least.
    As in the paper, the memory is carried to the next step without normalisation. Each normalisation has a gain. The
    offsets of the first two would be added to b, so there is only b.

    The weights, in the order i, f, g, o, are: kernel W `(features, 4 units)`, recurrent_kernel U `(units, 4 units)`,
    bias b `(4 units,)`; then kernel_gain a1 and recurrent_gain a2 `(4 units,)`, state_gain a3 and state_offset b3
    `(units,)`. `tfa.rnn.LayerNormLSTMCell` has two more offsets and carries the normalised memory.

    Args:
        units: Units of the output and of the memory.
        epsilon: Added to the variances.
        gain_initializer: Initializer of the gains. The paper initialises those of recurrent networks with one.
        **kwargs: Arguments of `keras.layers.LSTMCell`. `use_bias=False` leaves out b.

    Call arguments:
        inputs: Float `(batch, features)`.
        states: The hidden state h and the memory c, `(batch, units)` each.
        training: Whether dropout is on.

    Example:
        >>> cell = kseq.cells.LayerNormLSTMCell(16)
        >>> output, (hidden, memory) = cell(np.zeros((2, 8)), cell.get_initial_state(2))
        >>> output.shape
        (2, 16)

    Reference: J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", 2016.
    """

    def __init__(self, units: int, *, epsilon: float = 1e-3, gain_initializer: Any = "ones", **kwargs: Any):
        super().__init__(units, **kwargs)
        self.epsilon = epsilon
        self.gain_initializer = keras.initializers.get(gain_initializer)

    def build(self, input_shape: tuple) -> None:
        """Create the weights."""
        super().build(input_shape)
        units, gain = self.units, self.gain_initializer
        self.kernel_gain = self.add_weight(shape=(4 * units,), name="kernel_gain", initializer=gain)
        self.recurrent_gain = self.add_weight(shape=(4 * units,), name="recurrent_gain", initializer=gain)
        self.state_gain = self.add_weight(shape=(units,), name="state_gain", initializer=gain)
        self.state_offset = self.add_weight(shape=(units,), name="state_offset", initializer="zeros")

    def finish(self, mapped: Tensor) -> Tensor:
        """Return the normalised product of the inputs, `(..., 4 units)`, with gain and bias."""
        return super().finish(normalise(mapped, self.epsilon) * self.kernel_gain)

    @property
    def gate_weights(self) -> tuple:
        """The gains of the recurrent product and of the memory, and the memory's offset."""
        return self.recurrent_gain, self.state_gain, self.state_offset

    def gates(
        self,
        projected: Tensor,
        recurrent: Tensor,
        state: tuple,
        recurrent_gain: Tensor,
        state_gain: Tensor,
        state_offset: Tensor,
    ) -> LSTMState:
        """Return the new state; `projected` and `recurrent` are `(batch, 4 units)`."""
        _, cell = state
        recurrent = normalise(recurrent, self.epsilon) * recurrent_gain
        i, f, g, o = ops.split(projected + recurrent, 4, axis=-1)  # each (batch, units)
        sigmoid, tanh = self.recurrent_activation, self.activation
        cell = sigmoid(f) * cell + sigmoid(i) * tanh(g)
        shown = normalise(cell, self.epsilon) * state_gain + state_offset
        return LSTMState(sigmoid(o) * tanh(shown), cell)

    @property
    def gates_gradient(self):
        """The hand-written gradient for the default activations; None for others."""
        return self._gates_gradient if super().gates_gradient is not None else None

    def _gates_gradient(
        self,
        projected: Tensor,
        recurrent: Tensor,
        state: tuple,
        new_state: tuple,
        d_new: tuple,
        recurrent_gain: Tensor,
        state_gain: Tensor,
        state_offset: Tensor,
    ) -> tuple:
        (_, cell), (_, new_cell), (d_hidden, d_cell) = state, new_state, d_new
        normalised, scale = standardise(recurrent, self.epsilon)
        shown, shown_scale = standardise(new_cell, self.epsilon)
        i, f, g, o = ops.split(projected + normalised * recurrent_gain, 4, axis=-1)
        i, f, g, o = ops.sigmoid(i), ops.sigmoid(f), ops.tanh(g), ops.sigmoid(o)
        output = ops.tanh(shown * state_gain + state_offset)
        d_offset = d_hidden * o * (1.0 - ops.square(output))
        d_cell = d_cell + standardise_gradient(shown, shown_scale, d_offset * state_gain)
        d_sum = sum_gradient((i, f, g, o), cell, d_cell, d_hidden * output)
        d_recurrent = standardise_gradient(normalised, scale, d_sum * recurrent_gain)
        return d_sum, d_recurrent, (None, d_cell * f), (d_sum * normalised, d_offset * shown, d_offset)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        gain = keras.initializers.serialize(self.gain_initializer)
        return {**super().get_config(), "epsilon": self.epsilon, "gain_initializer": gain}
