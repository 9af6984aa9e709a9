"""Gated recurrent unit."""

from typing import Any, NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells.cell import Cell
from kseq.cells.keras_cell import KerasCell
from kseq.engine import Equations


class GRUState(NamedTuple):
    """State of a GRUCell.

    Attributes:
        hidden: The output, `(batch, units)`.
    """

    hidden: Tensor


@keras.saving.register_keras_serializable(package="kseq")
class GRUCell(KerasCell, keras.layers.GRUCell):
    """Gated recurrent unit with update gate z and reset gate r.

        [xz, xr, xn] = x W + b;   [hz, hr, hn] = h U + b'
        z = sigmoid(xz + hz);   r = sigmoid(xr + hr)
        h' = z * h + (1 - z) * tanh(xn + r * hn)

    Takes the arguments of `keras.layers.GRUCell` and holds its weights, in its order z, r, n: kernel W
    `(features, 3 units)`, recurrent_kernel U `(units, 3 units)`, bias `(2, 3 units)`, that is b and b'. With
    `reset_after=False` the reset gate multiplies h before the product, `tanh(xn + (r * h) Un)`, and the bias is
    `(3 units,)`. The recurrent product then depends on a gate, so the cell is called step by step.

    Some texts swap z and 1 - z.

    Args:
        units: Size of the output.
        activation: Activation of the candidate n; None for the identity.
        recurrent_activation: Activation of the gates.
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
        reset_after: Whether the reset gate is applied after the recurrent product, as above.
        **kwargs: `implementation` (1 draws a dropout mask for each gate, 2 one for all) and those of
            `keras.layers.Layer`.

    Raises:
        ValueError: If `units` is no positive int, or a dropout is no number from 0 to 1, or 1 with
            `reset_after=False`.

    Example:
        >>> cell = kseq.cells.GRUCell(16)
        >>> output, states = cell(np.zeros((2, 8)), cell.get_initial_state(2))
        >>> output.shape
        (2, 16)

    Reference: K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine
    translation", 2014.
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
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        reset_after: bool = True,
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
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            reset_after=reset_after,
            **kwargs,
        )
        if not self._has_gates and 1.0 in (self.dropout, self.recurrent_dropout):
            raise ValueError(
                f"dropout={self.dropout} and recurrent_dropout={self.recurrent_dropout}, but with reset_after=False "
                "Keras's step is run, which drops nothing at a rate of 1. Use a rate below 1 or reset_after=True."
            )

    def equations(self, training: bool = False) -> Equations | None:
        """Return the functions and weights of this cell; with `reset_after=False` they do not describe its step."""
        equations = super().equations(training)
        return equations and equations._replace(separable=equations.separable and self._has_gates)

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Take one step; see `Cell.call` for arguments and results."""
        return (Cell if self._has_gates else keras.layers.GRUCell).call(self, inputs, states, training=training)

    @property
    def _has_gates(self) -> bool:
        """Whether `gates` describes the step: with `reset_after=True`, or if a subclass defines others."""
        return self.reset_after or type(self).gates is not GRUCell.gates

    @property
    def input_bias(self) -> Tensor:
        """The bias b, `(3 units,)`."""
        return self.bias[0] if self.reset_after else self.bias

    @property
    def recurrent_weights(self) -> tuple:
        """`(U, b')`, or `(U,)` without a bias. In `recur`, the gradient of b' is computed once for all steps."""
        return (self.recurrent_kernel, self.bias[1]) if self.use_bias else (self.recurrent_kernel,)

    def gates(self, projected: Tensor, recurrent: Tensor, state: tuple) -> GRUState:
        """Return the new state; `projected` and `recurrent` are `(batch, 3 units)`."""
        (hidden,) = state
        xz, xr, xn = ops.split(projected, 3, axis=-1)  # each (batch, units)
        hz, hr, hn = ops.split(recurrent, 3, axis=-1)
        z = self.recurrent_activation(xz + hz)
        r = self.recurrent_activation(xr + hr)
        n = self.activation(xn + r * hn)
        return GRUState(z * hidden + (1.0 - z) * n)

    @property
    def gates_gradient(self):
        """The hand-written gradient for the default activations; None for others."""
        usual = self.activation is keras.activations.tanh and self.recurrent_activation is keras.activations.sigmoid
        return _gates_gradient if usual else None


def _gates_gradient(projected: Tensor, recurrent: Tensor, state: tuple, new_state: tuple, d_new: tuple) -> tuple:
    (hidden,), (d_hidden,) = state, d_new
    xz, xr, xn = ops.split(projected, 3, axis=-1)
    hz, hr, hn = ops.split(recurrent, 3, axis=-1)
    z, r = ops.sigmoid(xz + hz), ops.sigmoid(xr + hr)
    n = ops.tanh(xn + r * hn)
    dz = d_hidden * (hidden - n) * z * (1.0 - z)
    dn = d_hidden * (1.0 - z) * (1.0 - ops.square(n))
    dr = dn * hn * r * (1.0 - r)
    d_projected = ops.concatenate([dz, dr, dn], axis=-1)
    d_recurrent = ops.concatenate([dz, dr, dn * r], axis=-1)
    return d_projected, d_recurrent, (d_hidden * z,), ()
