"""The plain recurrent cell."""

from typing import Any, NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells.keras_cell import KerasCell


class SimpleRNNState(NamedTuple):
    """State of a SimpleRNNCell.

    Attributes:
        hidden: The output, `(batch, units)`.
    """

    hidden: Tensor


@keras.saving.register_keras_serializable(package="kseq")
class SimpleRNNCell(KerasCell, keras.layers.SimpleRNNCell):
    """Plain recurrent cell: `h' = activation(x W + b + h U)`.

    Takes the arguments of `keras.layers.SimpleRNNCell` and holds its weights: kernel W `(features, units)`,
    recurrent_kernel U `(units, units)`, bias b `(units,)`.

    Args:
        units: Size of the output.
        activation: Activation of the sum; None for the identity.
        use_bias: Whether there is a bias.
        kernel_initializer: Initializer of W.
        recurrent_initializer: Initializer of U.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Regularizer of W.
        recurrent_regularizer: Regularizer of U.
        bias_regularizer: Regularizer of the bias.
        kernel_constraint: Constraint of W.
        recurrent_constraint: Constraint of U.
        bias_constraint: Constraint of the bias.
        dropout: Share of the inputs that is dropped in training, the same ones at all steps of a sequence.
        recurrent_dropout: Share of the hidden state that is dropped for the recurrent product, likewise.
        seed: Seed of both dropouts; None for different ones in every run.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `units` is no positive int, or a dropout is no number from 0 to 1.

    Example:
        >>> cell = kseq.cells.SimpleRNNCell(16)
        >>> output, states = cell(np.zeros((2, 8)), cell.get_initial_state(2))
        >>> output.shape
        (2, 16)

    Reference: J. L. Elman, "Finding structure in time", 1990.
    """

    additive = True

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
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
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
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

    def gates(self, projected: Tensor, recurrent: Tensor, state: tuple) -> SimpleRNNState:
        """Return the state after `h' = activation(projected + recurrent)`, all `(batch, units)`."""
        return SimpleRNNState(self.activation(projected + recurrent))

    @property
    def gates_gradient(self):
        """The hand-written gradient if the activation is tanh; None otherwise."""
        return _tanh_gradient if self.activation is keras.activations.tanh else None


def _tanh_gradient(projected: Tensor, recurrent: Tensor, state: tuple, new_state: tuple, d_new: tuple) -> tuple:
    (hidden,), (d_hidden,) = new_state, d_new
    d_sum = d_hidden * (1.0 - ops.square(hidden))
    return d_sum, d_sum, (None,), ()
