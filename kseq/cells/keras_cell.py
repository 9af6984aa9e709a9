"""What the cells that Keras has too share: Keras's weights, arguments and step, and the engine's pieces."""

from keras import ops

from kseq.backend import Tensor
from kseq.cells.cell import Cell
from kseq.linear import dense


class KerasCell(Cell):
    """A cell that is a subclass of one of Keras's own.

    `call` (one step), the weights, their names and order, and the arguments stay Keras's. A subclass lists this class
    first and Keras's second.
    """

    def drop_inputs(self, inputs: Tensor, training: bool) -> Tensor:
        """Drop inputs `(batch, features)` or `(time, batch, features)`: one mask for all steps, as in Keras."""
        if not (training and 0.0 < self.dropout < 1.0):
            return inputs
        return inputs * self.get_dropout_mask(inputs if len(inputs.shape) == 2 else inputs[0])

    def project(self, inputs: Tensor) -> Tensor:
        """Return `inputs @ kernel + bias`, `(..., features)` to `(..., projected)`."""
        projected = dense(inputs, self.kernel)
        return ops.add(projected, self.input_bias) if self.use_bias else projected

    @property
    def input_bias(self) -> Tensor:
        """The bias that is added to the projection, `(projected,)`."""
        return self.bias

    def is_separable(self, training: bool) -> bool:
        """Dropout with a mask for each gate (`recurrent_dropout`, `implementation=1`) goes step by step."""
        masked_gates = getattr(self, "implementation", 2) == 1 and self.dropout > 0
        return not (training and (self.recurrent_dropout > 0 or masked_gates))
