"""Long short-term memory with a projected output."""

from typing import Any, NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells.lstm import LSTMCell
from kseq.numbers import positive_int


class ProjectionLSTMState(NamedTuple):
    """State of a ProjectionLSTMCell.

    Attributes:
        hidden: The output h, `(batch, projection_units)`.
        cell: The memory c, `(batch, units)`.
    """

    hidden: Tensor
    cell: Tensor


@keras.saving.register_keras_serializable(package="kseq")
class ProjectionLSTMCell(LSTMCell):
    """Long short-term memory with a large memory and a small output (LSTMP), made by a projection P.

        [i, f, g, o] = x W + b + h U
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = (sigmoid(o) * tanh(c')) P

    The recurrent product, the largest one, shrinks by the factor `projection_units / units`. The weights, in the order
    i, f, g, o, are: kernel W `(features, 4 units)`, recurrent_kernel U `(projection_units, 4 units)`, bias b
    `(4 units,)`, projection_kernel P `(units, projection_units)`. Transposed, they are those of
    `torch.nn.LSTM(proj_size=...)`, whose two biases add up to b.

    Args:
        units: Units of the memory.
        projection_units: Units of the output; by default half of `units`, at least one.
        projection_initializer: Initializer of P.
        **kwargs: Arguments of `keras.layers.LSTMCell`.

    Call arguments:
        inputs: Float `(batch, features)`.
        states: The hidden state h `(batch, projection_units)` and the memory c `(batch, units)`.
        training: Whether dropout is on.

    Raises:
        ValueError: If `projection_units` is not positive.

    Example:
        >>> cell = kseq.cells.ProjectionLSTMCell(16, projection_units=4)
        >>> output, (hidden, memory) = cell(np.zeros((2, 8)), cell.get_initial_state(2))
        >>> output.shape, memory.shape
        ((2, 4), (2, 16))

    Reference: H. Sak, A. Senior, F. Beaufays, "Long short-term memory based recurrent neural network architectures for
    large vocabulary speech recognition", 2014.
    """

    additive = True

    def __init__(
        self,
        units: int,
        projection_units: int | None = None,
        *,
        projection_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ):
        super().__init__(units, **kwargs)
        self.projection_units = max(1, self.units // 2)
        if projection_units is not None:
            self.projection_units = positive_int(self, "projection_units", projection_units)
        self.projection_initializer = keras.initializers.get(projection_initializer)
        self.state_size = [self.projection_units, self.units]
        self.output_size = self.projection_units

    def build(self, input_shape: tuple) -> None:
        """Create the weights."""
        self.check_bias()
        self.add_kernels(input_shape[-1], self.projection_units, 4 * self.units)
        self.add_forget_bias(4 * self.units, forget_block=1)
        self.projection_kernel = self.add_weight(
            shape=(self.units, self.projection_units),
            name="projection_kernel",
            initializer=self.projection_initializer,
        )

    @property
    def gate_weights(self) -> tuple:
        """The projection P."""
        return (self.projection_kernel,)

    def gates(self, projected: Tensor, recurrent: Tensor, state: tuple, projection: Tensor) -> ProjectionLSTMState:
        """Return the new state; `projected` and `recurrent` are `(batch, 4 units)`."""
        unprojected, cell = LSTMCell.gates(self, projected, recurrent, state)  # both (batch, units)
        return ProjectionLSTMState(ops.matmul(unprojected, projection), cell)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        initializer = keras.initializers.serialize(self.projection_initializer)
        return {
            **super().get_config(),
            "projection_units": self.projection_units,
            "projection_initializer": initializer,
        }
