"""Base classes of cells that contain other cells."""

import functools
from typing import Any, Self

import keras
from keras import ops
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell  # Keras's loop handles masks of this class

from kseq import engine
from kseq.backend import Tensor
from kseq.cells.cell import Cell, axes
from kseq.cells.copies import check_step, config_of
from kseq.engine import Equations, State
from kseq.inner_layers import freeze_inner_layers, hand_down_precision


class OuterCell(Cell, DropoutRNNCell):
    """A cell that contains other cells, `inner_cells`, and has them draw and discard their dropout masks.

    `keras.layers.RNN` calls these methods before and after its loop. `kseq.layers.RNN` does not need them.
    """

    inner_cells: list[Cell]

    def get_dropout_mask(self, step_input: Tensor) -> Any:
        """Draw the masks of all inner cells' inputs. `step_input`, of the first cell, is `(batch, features)`."""
        for cell in self.inner_cells:
            if isinstance(cell, DropoutRNNCell):
                cell.get_dropout_mask(step_input)
            step_input = ops.zeros((ops.shape(step_input)[0], *axes(cell.output_size)), dtype=step_input.dtype)

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> Any:
        """Draw the masks of all inner cells' hidden states. `step_input` may be any tensor `(batch, ...)`."""
        for cell in self.inner_cells:
            if isinstance(cell, DropoutRNNCell):
                cell.get_recurrent_dropout_mask(cell.get_initial_state(ops.shape(step_input)[0])[0])

    def reset_dropout_mask(self) -> None:
        """Discard the masks of all inner cells' inputs."""
        for cell in self.inner_cells:
            if isinstance(cell, DropoutRNNCell):
                cell.reset_dropout_mask()

    def reset_recurrent_dropout_mask(self) -> None:
        """Discard the masks of all inner cells' hidden states."""
        for cell in self.inner_cells:
            if isinstance(cell, DropoutRNNCell):
                cell.reset_recurrent_dropout_mask()


class WrapperCell(OuterCell):
    """A cell that changes one aspect of another cell and otherwise runs it unchanged.

    A subclass overrides `equations`, to change what the engine does at each step; or `run` and `call`; or
    `get_initial_state`. A wrapper around a wrapper changes the equations of the inner one. The precision is that of
    the inner cell; a `dtype` argument applies to both.

    Args:
        cell: The inner cell, a `kseq.cells.Cell`.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, cell: Cell, **kwargs: Any):
        check_cell(self, cell)
        super().__init__(**{**kwargs, "dtype": kwargs.get("dtype") or cell.dtype_policy})
        hand_down_precision(cell, self)
        self.cell = cell
        freeze_inner_layers(self)

    @property
    def inner_cells(self) -> list[Cell]:
        """The inner cell."""
        return [self.cell]

    def check_equations(self, *, separable: bool = False) -> None:
        """Raise if the inner cell is not run through its equations, so that changing them would have no effect.

        Args:
            separable: Whether to raise also if the inner cell's `call` takes the steps with its present options.
        """
        inner, own = type(self.cell).__name__, type(self).__name__
        equations = self.cell.equations(training=True)
        if equations is None or not equations.output_is_state:
            way_out = "Use it around a cell whose gates depend on the hidden state, such as LSTMCell or GRUCell."
            if isinstance(self.cell, OuterCell):
                way_out = f"Put {own} inside: {inner}({own}(cell)) for a wrapper, {own} around each cell for a stack."
            raise ValueError(
                f"{own} changes the gates or their inputs, but {inner} is not run through project, recur and gates. "
                f"{way_out}"
            )
        if separable and not equations.separable:
            raise ValueError(
                f"{own} changes the inputs of the gates, but with these options {inner} is not run through project, "
                "recur and gates. For a GRUCell, set reset_after=True."
            )

    @property
    def state_size(self) -> Any:
        """Units of each state tensor."""
        return self.cell.state_size

    @property
    def output_size(self) -> Any:
        """Units of the output."""
        return self.cell.output_size

    def build(self, input_shape: tuple) -> None:
        """Create the inner cell's weights."""
        if not self.cell.built:
            self.cell.build(input_shape)
        self.step_rank = len(input_shape)

    def is_sequence(self, inputs: Tensor) -> bool:
        """Return whether `inputs` are those of all steps `(time, batch, ...)`, not of one step."""
        return len(inputs.shape) > self.step_rank

    def get_initial_state(self, batch_size: int | Tensor | None = None) -> list[Tensor]:
        """Return the inner cell's initial state."""
        return self.cell.get_initial_state(batch_size)

    def project(self, inputs: Tensor) -> Tensor:
        """Return the inner cell's projection, without what wrappers do to it."""
        return self.cell.project(inputs)

    def equations(self, training: bool = False) -> Equations | None:
        """Return the inner cell's functions and weights; subclasses replace some of them."""
        return self.cell.equations(training)

    def run(
        self, inputs: Tensor, state: State, mask: Tensor | None = None, *, training: bool = False, **options: Any
    ) -> tuple[Tensor, State]:
        """Run all steps: as the inner cell does, or by `equations` if the subclass overrides it."""
        changed = self._own_equations(training) is not None
        run = functools.partial(engine.run, self) if changed else self.cell.run
        return run(inputs, state, mask, training=training, **options)

    def call(self, inputs: Tensor, states: State, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Take one step: as the inner cell does, or by `equations` if the subclass overrides it."""
        equations = self._own_equations(training)
        if equations is not None and equations.separable:
            return super().call(inputs, states, training=training)
        return self.cell(inputs, states, training=training)

    def _own_equations(self, training: bool) -> Equations | None:
        """Return the equations if the subclass overrides them and the inner cell has any."""
        return None if type(self).equations is WrapperCell.equations else self.equations(training)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "cell": config_of(self.cell)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a cell from `get_config`."""
        return cls(**{**config, "cell": keras.saving.deserialize_keras_object(config["cell"])})


def check_cell(outer: Cell, cell: Any) -> None:
    """Raise unless `cell` is a kseq cell."""
    check_step(cell, type(outer).__name__)
    if not isinstance(cell, Cell):
        raise ValueError(
            f"{type(outer).__name__} takes a kseq.cells.Cell, but got {cell!r}. kseq.cells has cells with the "
            "arguments and weights of Keras's cells, such as kseq.cells.LSTMCell(16)."
        )
