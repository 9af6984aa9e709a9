"""What the cells that Keras has too share: Keras's weights, arguments and step, and the engine's pieces."""

from typing import Any

from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.cells.cell import Cell, says_of
from kseq.cells.dropout_masks import DropoutMasks
from kseq.cells.recurrent_dropout import Dropped, with_recurrent_dropout
from kseq.equations import Equations
from kseq.linear import dense

PIECES = ("gates", "recur", "project", "projections", "drop_inputs", "map_inputs", "finish")


class KerasCell(DropoutMasks, Cell):
    """A cell that is a subclass of one of Keras's own.

    The weights, their names and order, and the arguments stay Keras's, and so does `call` (one step) unless a subclass
    has a piece of its own. A subclass lists this class first and Keras's second, and names it as `keras_cell`.

    Dropout means what it means to Keras: one mask for all steps of a sequence, and with `recurrent_dropout` or
    `implementation=1` one for each gate. With the same seed it drops the same units.
    """

    keras_cell: type = Cell  # whose step it is

    def call(self, inputs: Tensor, states: Any, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Take one step; `Cell.call` says what goes in and out."""
        kerass = all(says_of(self, "keras_cell", piece) for piece in PIECES)
        return (self.keras_cell if kerass else Cell).call(self, inputs, states, training=training)

    def is_separable(self, training: bool) -> bool:
        """Not if a subclass has a step of its own, but not the gates to it."""
        del training
        return says_of(self, "gates", "call")

    def projections(self, inputs: Tensor, mask: Tensor | None = None, training: bool = False) -> Any:
        """Return what `gates` takes of the inputs, for one step or for all, dropped in training."""
        masks = self._input_masks(inputs, training)
        if len(masks) < 2:
            return super().projections(inputs, mask, training)
        kernels = ops.split(self.kernel, len(masks), axis=-1)
        gates = [self.map_inputs(inputs * drop, kernel) for drop, kernel in zip(masks, kernels, strict=True)]
        return self.finish(ops.concatenate(gates, axis=-1))

    def add_kernels(self, features: int, hidden: int, width: int) -> None:
        """Create kernel `(features, width)` and recurrent_kernel `(hidden, width)`, where they are not Keras's."""
        self.kernel = self.add_weight(
            shape=(features, width),
            name="kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.recurrent_kernel = self.add_weight(
            shape=(hidden, width),
            name="recurrent_kernel",
            initializer=self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
        )

    def add_forget_bias(self, width: int, forget_block: int) -> None:
        """Create an LSTM's bias `(width,)`, with ones for the forget gate if `unit_forget_bias`."""

        def first(shape: tuple, dtype: Any = None) -> Tensor:
            units, before = self.units, forget_block * self.units
            blocks = (
                self.bias_initializer((before,), dtype=dtype),
                ops.ones((units,), dtype=dtype),
                self.bias_initializer((width - before - units,), dtype=dtype),
            )
            return ops.concatenate(blocks)

        if self.use_bias:
            self.bias = self.add_weight(
                shape=(width,),
                name="bias",
                initializer=first if self.unit_forget_bias else self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def projects_rows_apart(self, training: bool) -> bool:
        """Unless inputs are dropped: then all rows' masks are drawn at once."""
        return not (training and self.dropout > 0)

    def drop_inputs(self, inputs: Tensor, training: bool) -> Tensor:
        """Drop inputs `(batch, features)` or `(time, batch, features)`."""
        masks = self._input_masks(inputs, training)
        return inputs * masks[0] if masks else inputs

    def _input_masks(self, inputs: Tensor, training: bool) -> list:
        """Return no mask `(batch, features)`, one, or one for each gate; drawn once for a sequence."""
        if not (training and 0.0 < self.dropout < 1.0):
            return []
        is_step = len(inputs.shape) == len(self.kernel.shape)  # of products and convolutions alike
        return tree.flatten(self.get_dropout_mask(inputs if is_step else inputs[0]))

    def _create_dropout_mask(self, step_input: Tensor, dropout_rate: float) -> Tensor | list[Tensor]:
        """Draw what Keras's method of this name draws, in a fraction of the time under XLA."""
        count = getattr(self, "dropout_mask_count", None)
        masks = [backend.dropout_mask(step_input, dropout_rate, self.seed_generator) for _ in range(count or 1)]
        return masks if count else masks[0]

    def map_inputs(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Return `inputs @ kernel`, `(..., features)` to `(..., units)`."""
        return dense(inputs, kernel)

    def project(self, inputs: Tensor) -> Tensor:
        """Return `inputs @ kernel + bias`, `(..., features)` to `(..., projected)`."""
        return self.finish(self.map_inputs(inputs, self.kernel))

    def finish(self, mapped: Tensor) -> Tensor:
        """Return what `gates` takes of the mapped inputs of all gates, `(..., projected)`: the bias is added."""
        return ops.add(mapped, self.input_bias) if self.use_bias else mapped

    @property
    def input_bias(self) -> Tensor:
        """The bias that is added to the projection, `(projected,)`."""
        return self.bias

    def recurrent_arguments(self, batch_size: int | Tensor, training: bool) -> Any:
        """Return the recurrent weights, in training with the masks of recurrent dropout."""
        if not (training and 0.0 < self.recurrent_dropout < 1.0):
            return self.recurrent_weights
        masks = self.get_recurrent_dropout_mask(self.get_initial_state(batch_size)[0])
        return Dropped(self.recurrent_weights, tuple(tree.flatten(masks)))

    def equations(self) -> Equations:
        """Return the pure functions of this cell."""
        equations = super().equations()
        return with_recurrent_dropout(equations) if self.recurrent_dropout > 0 else equations
