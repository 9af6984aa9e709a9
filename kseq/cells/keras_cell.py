"""The base of cells that Keras has too: Keras's weights, arguments and dropout, run as a kseq cell."""

from typing import Any

from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.cells.cell import Cell
from kseq.cells.dropout_masks import DropoutMasks
from kseq.cells.recurrent_dropout import with_recurrent_dropout
from kseq.engine import Equations
from kseq.linear import dense
from kseq.numbers import plain_seed, positive_int, share


class KerasCell(DropoutMasks, Cell):
    """A cell that is a subclass of one of Keras's own.

    The weights, their names and order, and the arguments are Keras's. A subclass lists this class first and Keras's
    second. Like other kseq cells, it is run through `project`, `recur` and `gates`.

    Dropout works as in Keras: there is one mask for all steps of a sequence, and with `recurrent_dropout` or
    `implementation=1` one for each gate. With the same seed it drops the same units. A rate of 1 drops all
    units; of Keras's cells, SimpleRNN then drops all and LSTM and GRU, against their documentation, none.
    """

    def __init__(self, **arguments: Any):
        for name in {"units", "filters"} & set(arguments):
            arguments[name] = positive_int(self, name, arguments[name])
        for name in {"dropout", "recurrent_dropout"} & set(arguments):
            arguments[name] = share(self, name, arguments[name])
        arguments["seed"] = plain_seed(arguments.get("seed"))
        if arguments.get("implementation", 2) not in (1, 2):
            raise ValueError(
                f"implementation={arguments['implementation']!r}, but {type(self).__name__} takes 1 (a dropout mask "
                "for each gate) or 2 (one for all gates)."
            )
        super().__init__(**arguments)

    def add_kernels(self, features: int, hidden: int, width: int) -> None:
        """Create kernel `(features, width)` and recurrent_kernel `(hidden, width)`, if their shapes are not Keras's."""
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

    def _create_dropout_mask(self, step_input: Tensor, dropout_rate: float) -> Tensor | list[Tensor]:
        """Draw the same masks as Keras's method of this name, in a fraction of its time under XLA."""
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
        """Return the projection `(..., projected)`: the mapped inputs of all gates with the bias added."""
        return ops.add(mapped, self.input_bias) if self.use_bias else mapped

    @property
    def input_bias(self) -> Tensor:
        """The bias that is added to the projection, `(projected,)`."""
        return self.bias

    def equations(self, training: bool = False) -> Equations | None:
        """Return the functions and weights of this cell for one call, with its dropout in training."""
        equations = super().equations(training)
        if equations is None or not training:
            return equations
        if self.dropout:
            equations = equations._replace(
                project=lambda inputs, mask: self._project_dropped(inputs), projects_rows_apart=False
            )
        if self.recurrent_dropout:
            equations = with_recurrent_dropout(equations, self._recurrent_masks)
        return equations

    def _project_dropped(self, inputs: Tensor) -> Tensor:
        """Return `project` of the inputs after dropout, with one mask for all gates or one for each."""
        is_step = len(inputs.shape) == len(self.kernel.shape)  # both for products and for convolutions
        masks = tree.flatten(self.get_dropout_mask(inputs if is_step else inputs[0]))
        if len(masks) == 1:
            return self.project(inputs * masks[0])
        kernels = ops.split(self.kernel, len(masks), axis=-1)
        gates = [self.map_inputs(inputs * mask, kernel) for mask, kernel in zip(masks, kernels, strict=True)]
        return self.finish(ops.concatenate(gates, axis=-1))

    def _recurrent_masks(self, batch_size: int | Tensor) -> list:
        """Return a list of masks of the hidden state, one for all gates or one for each; drawn once for a sequence."""
        return tree.flatten(self.get_recurrent_dropout_mask(self.get_initial_state(batch_size)[0]))
