"""Long short-term memory."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.cells.keras_cell import KerasCell
from kseq.engine import Activated
from kseq.initializers import GateBias


class LSTMState(NamedTuple):
    """State of an LSTMCell.

    Attributes:
        hidden: The output h, `(batch, units)`.
        cell: The memory c, `(batch, units)`.
    """

    hidden: Tensor
    cell: Tensor


class LSTMGates(KerasCell):
    """The gates of a long short-term memory, for cells with any kind of product."""

    additive = True

    def gates(self, projected: Tensor, recurrent: Tensor, state: tuple) -> LSTMState:
        """Return the new state; `projected` and `recurrent` are `(batch, 4 units)`."""
        _, cell = state
        i, f, g, o = ops.split(projected + recurrent, 4, axis=-1)  # each (batch, units)
        sigmoid, tanh = self.recurrent_activation, self.activation
        cell = sigmoid(f) * cell + sigmoid(i) * tanh(g)
        return LSTMState(sigmoid(o) * tanh(cell), cell)

    @property
    def gates_gradient(self):
        """The hand-written gradient for the default activations; None for others."""
        return _gates_gradient if self._has_usual_activations() else None

    @property
    def activated(self):
        """The gates in two parts for the default activations; None for others."""
        return Activated(_activate, _gates, _activated_gradient) if self._has_usual_activations() else None

    def _has_usual_activations(self) -> bool:
        return self.activation is keras.activations.tanh and self.recurrent_activation is keras.activations.sigmoid


@keras.saving.register_keras_serializable(package="kseq")
class LSTMCell(LSTMGates, keras.layers.LSTMCell):
    """Long short-term memory with input, forget and output gates.

        [i, f, g, o] = x W + b + h U
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(c')

    Takes the arguments of `keras.layers.LSTMCell` and holds its weights, in its order i, f, g, o: kernel W
    `(features, 4 units)`, recurrent_kernel U `(units, 4 units)`, bias b `(4 units,)`.

    Args:
        units: Size of the output and of the memory.
        activation: Activation of the candidate g and of the memory; None for the identity.
        recurrent_activation: Activation of the gates.
        use_bias: Whether there is a bias.
        kernel_initializer: Initializer of W.
        recurrent_initializer: Initializer of U.
        bias_initializer: Initializer of the bias.
        unit_forget_bias: Whether the bias of the forget gate starts at one.
        kernel_regularizer: Regularizer of W.
        recurrent_regularizer: Regularizer of U.
        bias_regularizer: Regularizer of the bias.
        kernel_constraint: Constraint of W.
        recurrent_constraint: Constraint of U.
        bias_constraint: Constraint of the bias.
        dropout: Share of the inputs that is dropped in training, the same ones at all steps of a sequence.
        recurrent_dropout: Share of the hidden state that is dropped for the recurrent product, likewise.
        seed: Seed of both dropouts; None for different ones in every run.
        **kwargs: `implementation` (1 draws a dropout mask for each gate, 2 one for all) and those of
            `keras.layers.Layer`.

    Raises:
        ValueError: If `units` is no positive int, or a dropout is no number from 0 to 1.

    Example:
        >>> cell = kseq.cells.LSTMCell(16)
        >>> output, (hidden, memory) = cell(np.zeros((2, 8)), cell.get_initial_state(2))
        >>> output.shape
        (2, 16)

    References:
        S. Hochreiter, J. Schmidhuber, "Long short-term memory", 1997.
        F. Gers, J. Schmidhuber, F. Cummins, "Learning to forget: continual prediction with LSTM", 2000.
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            units=units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            unit_forget_bias=unit_forget_bias,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            **kwargs,
        )

    def build(self, input_shape: tuple) -> None:
        """Create the weights."""
        self.check_bias()
        super().build(input_shape)

    def check_bias(self) -> None:
        """Raise if the bias initializer fills all gates, which contradicts `unit_forget_bias`."""
        if self.use_bias and self.unit_forget_bias and isinstance(self.bias_initializer, GateBias):
            raise ValueError(
                f"bias_initializer={type(self.bias_initializer).__name__} fills the biases of all gates, but "
                "unit_forget_bias=True sets the forget gate's to one. Pass unit_forget_bias=False."
            )


def _activate(sums: Tensor) -> Tensor:
    """Return sigmoid(i), sigmoid(f), tanh(g), sigmoid(o) of i, f, g, o, `(batch, 4 units)`, by a single tanh.

    It uses sigmoid(x) = tanh(x / 2) / 2 + 1 / 2. Its rounding error is that of numbers near one, even where the sigmoid
    is near zero, so it is computed in float32 at least.
    """
    dtype = keras.backend.result_type(sums.dtype, "float32")
    scale = np.repeat([0.5, 0.5, 1.0, 0.5], sums.shape[-1] // 4).astype(dtype)
    return ops.cast(ops.tanh(ops.cast(sums, dtype) * scale) * scale + (1.0 - scale), sums.dtype)


def _gates(activations: Tensor, state: tuple) -> LSTMState:
    i, f, g, o = ops.split(activations, 4, axis=-1)  # each (batch, units)
    cell = f * state[1] + i * g
    return LSTMState(o * ops.tanh(cell), cell)


def _activated_gradient(activations: Tensor, state: tuple, new_state: tuple, d_new: tuple) -> tuple:
    i, f, g, o = ops.split(activations, 4, axis=-1)
    d_hidden, d_cell = d_new
    tanh_cell = ops.tanh(new_state[1])
    d_cell = d_cell + d_hidden * o * (1.0 - ops.square(tanh_cell))
    return sum_gradient((i, f, g, o), state[1], d_cell, d_hidden * tanh_cell), (None, d_cell * f)


def _gates_gradient(projected: Tensor, recurrent: Tensor, state: tuple, new_state: tuple, d_new: tuple) -> tuple:
    d_sum, d_state = _activated_gradient(_activate(projected + recurrent), state, new_state, d_new)
    return d_sum, d_sum, d_state, ()


def sum_gradient(gates: tuple, cell: Tensor, d_cell: Tensor, d_output: Tensor) -> Tensor:
    """Return the gradient of the sums to which an LSTM applies its activations.

    Args:
        gates: i, f, g, o after their activations (tanh for g, sigmoid for the others), `(batch, units)` each.
        cell: The memory before the step, `(batch, units)`.
        d_cell: The gradient of the memory after the step, `(batch, units)`.
        d_output: The gradient of o, `(batch, units)`.

    Returns:
        `(batch, 4 units)`.
    """
    i, f, g, o = gates
    parts = [
        d_cell * g * i * (1.0 - i),
        d_cell * cell * f * (1.0 - f),
        d_cell * i * (1.0 - ops.square(g)),
        d_output * o * (1.0 - o),
    ]
    return ops.concatenate(parts, axis=-1)
