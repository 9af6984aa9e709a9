"""The plain recurrent cell."""

from typing import NamedTuple

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

    Example:
        >>> cell = kseq.cells.SimpleRNNCell(16)
        >>> output, states = cell(np.zeros((2, 8)), cell.get_initial_state(2))
        >>> output.shape
        (2, 16)

    Reference: J. L. Elman, "Finding structure in time", 1990.
    """

    additive = True

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
