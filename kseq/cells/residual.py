"""A cell with a residual connection."""

from typing import Any

import keras

from kseq.backend import Tensor
from kseq.cells.cell import axes
from kseq.cells.wrapper import WrapperCell
from kseq.engine import State
from kseq.masking import hold_last, last_real


@keras.saving.register_keras_serializable(package="kseq")
class ResidualCell(WrapperCell):
    """A cell with a residual connection: `y_t = cell(x_t, s_{t-1}) + x_t`.

    The state is that of the inner cell: the sum is not fed back, so it is computed after the loop, for all steps at
    once. As with any cell, the output at a masked step is that of the last real step.

    The inner cell may have a `run` of its own, as `StackedCells` has. Wrappers that change a cell's gates must be
    inside: `ResidualCell(ZoneoutCell(LSTMCell(16), 0.1))`.

    Args:
        cell: The inner cell, with as many outputs as there are features.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float `(batch, units)`.
        states: The inner cell's states.
        training: Whether dropout is on.

    Raises:
        ValueError: When the cell is built, if the size of the inputs is not that of the inner cell's output.

    Example:
        >>> cell = kseq.cells.ResidualCell(kseq.cells.GRUCell(8))
        >>> kseq.layers.RNN(cell, return_sequences=True)(np.zeros((2, 10, 8))).shape
        (2, 10, 8)

    References:
        K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", 2016.
        Y. Wu et al., "Google's neural machine translation system: bridging the gap between human and machine
        translation", 2016.
    """

    def build(self, input_shape: tuple) -> None:
        """Create the inner cell's weights."""
        super().build(input_shape)
        if tuple(input_shape[1:]) != axes(self.output_size):
            raise ValueError(
                f"ResidualCell adds the inputs {tuple(input_shape)} to the outputs of {type(self.cell).__name__}, "
                f"(batch, {', '.join(map(str, axes(self.output_size)))}): their sizes must be equal. Give the cell as "
                "many units as there are features, or project the inputs first."
            )

    def equations(self, training: bool = False) -> None:
        """Return None: the output is not the first element of the state."""

    def run(
        self, inputs: Tensor, state: State, mask: Tensor | None = None, *, return_sequences: bool = True, **options: Any
    ) -> tuple[Tensor, State]:
        """Run all steps of the inner cell, and add the inputs."""
        outputs, final = self.cell.run(inputs, state, mask, return_sequences=return_sequences, **options)
        hold = hold_last if return_sequences else last_real
        return outputs + hold(inputs, mask), final

    def call(self, inputs: Tensor, states: State, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Take one step of the inner cell, and add the inputs."""
        output, new = self.cell(inputs, states, training=training)
        return output + inputs, new
