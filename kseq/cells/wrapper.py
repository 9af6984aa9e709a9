"""Cells made of other cells, and a cell around another."""

import contextlib
from collections.abc import Iterator
from typing import Any, Self

import keras
from keras import ops
from keras.src.backend.common import global_state  # where Keras keeps what it has seen in a file
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell  # Keras's loop looks for it to draw and drop masks

from kseq.backend import Tensor
from kseq.cells.cell import Cell, axes
from kseq.engine import Equations, State


class OuterCell(Cell, DropoutRNNCell):
    """A cell made of others, `inner_cells`. Has them draw and forget the dropout masks of a sequence.

    `kseq.layers.RNN` does so by itself; `keras.layers.RNN` calls these methods, before its loop and after it.
    """

    inner_cells: list[Cell]

    def get_dropout_mask(self, step_input: Tensor) -> Any:
        """Draw the masks of the inputs; those of the first cell are `(batch, features)`."""
        for cell in self.inner_cells:
            if isinstance(cell, DropoutRNNCell):
                cell.get_dropout_mask(step_input)
            step_input = ops.zeros((ops.shape(step_input)[0], *axes(cell.output_size)), dtype=step_input.dtype)

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> Any:
        """Draw the masks of the hidden states, given any tensor `(batch, ...)`."""
        for cell in self.inner_cells:
            if isinstance(cell, DropoutRNNCell):
                cell.get_recurrent_dropout_mask(cell.get_initial_state(ops.shape(step_input)[0])[0])

    def reset_dropout_mask(self) -> None:
        """Forget the masks of the inputs."""
        for cell in self.inner_cells:
            if isinstance(cell, DropoutRNNCell):
                cell.reset_dropout_mask()

    def reset_recurrent_dropout_mask(self) -> None:
        """Forget the masks of the hidden states."""
        for cell in self.inner_cells:
            if isinstance(cell, DropoutRNNCell):
                cell.reset_recurrent_dropout_mask()


class WrapperCell(OuterCell):
    """A cell that changes something of another cell, which is otherwise run as it is.

    A subclass overrides `run` and `call`; or `get_initial_state`; or, to change what the engine does at each step,
    `equations`, with a `run` that calls `kseq.engine.run`. A wrapper around a wrapper changes the equations of the
    inner one. Its precision is the inner cell's; a `dtype` that is given becomes that of both.

    Args:
        cell: The inner cell, a `kseq.cells.Cell`.
        **kwargs: Those of `keras.layers.Layer`.
    """

    def __init__(self, cell: Cell, **kwargs: Any):
        check_cell(self, cell)
        super().__init__(**{**kwargs, "dtype": kwargs.get("dtype") or cell.dtype_policy})
        hand_down_precision(cell, self)
        self.cell = cell

    @property
    def inner_cells(self) -> list[Cell]:
        """The inner cell."""
        return [self.cell]

    def check_equations(self, *, separable: bool = False) -> None:
        """Raise if the inner cell is not run by its equations, so that none can be changed, or not in every case."""
        inner, own = type(self.cell).__name__, type(self).__name__
        equations = self.cell.equations(training=True)
        if equations is None or not equations.output_is_state:
            way_out = "It goes around cells with gates that see the hidden state, such as LSTMCell and GRUCell."
            if isinstance(self.cell, OuterCell):
                way_out = f"Put {own} inside: {inner}({own}(cell)) for a wrapper, each cell in a {own} for a stack."
            raise ValueError(
                f"{own} changes the gates, or what goes into them, but {inner} takes its steps in a way of its own. "
                f"{way_out}"
            )
        if separable and not equations.separable:
            raise ValueError(
                f"{own} changes what goes into the gates, but with these options {inner} takes its steps as a whole. "
                "GRUCell, for one, needs reset_after=True here."
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
        """Whether `inputs` are those of all steps, time first, not of one."""
        return len(inputs.shape) > self.step_rank

    def get_initial_state(self, batch_size: int | Tensor | None = None) -> list[Tensor]:
        """Return the inner cell's initial state."""
        return self.cell.get_initial_state(batch_size)

    def project(self, inputs: Tensor) -> Tensor:
        """Return the inner cell's projection, without what wrappers do to it."""
        return self.cell.project(inputs)

    def equations(self, training: bool = False) -> Equations | None:
        """Return the inner cell's functions and weights; a subclass replaces some."""
        return self.cell.equations(training)

    def run(self, inputs: Tensor, state: State, mask: Tensor | None = None, **options: Any) -> tuple[Tensor, State]:
        """Take all steps as the inner cell does."""
        return self.cell.run(inputs, state, mask, **options)

    def call(self, inputs: Tensor, states: State, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Take one step of the inner cell."""
        return self.cell(inputs, states, training=training)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "cell": config_of(self.cell)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a cell from `get_config`."""
        return cls(**{**config, "cell": keras.saving.deserialize_keras_object(config["cell"])})


def config_of(cell: Cell) -> dict[str, Any]:
    """Return the configuration of a cell, without its weights and their shapes."""
    with nothing_shared():
        config = keras.saving.serialize_keras_object(cell)
    return {key: value for key, value in config.items() if key != "build_config"}


@contextlib.contextmanager
def nothing_shared() -> Iterator[None]:
    """Within this context every object that Keras makes of a configuration is a new one.

    While a model is saved or loaded, Keras marks what it serialises twice, and makes one object of all that bear the
    same mark. It marks by address, which a cell that is gone leaves to another: layers would come to share weights.
    """
    names = ("shared_objects/id_to_obj_map", "shared_objects/id_to_config_map")
    seen = {name: global_state.get_global_attribute(name) for name in names}
    for name in names:
        global_state.set_global_attribute(name, None)
    try:
        yield
    finally:
        for name, value in seen.items():
            global_state.set_global_attribute(name, value)


def check_cell(outer: Cell, cell: Any) -> None:
    """Raise unless `cell` is one of kseq's."""
    if not isinstance(cell, Cell):
        raise ValueError(
            f"{type(outer).__name__} takes a kseq.cells.Cell, but got {cell!r}. kseq.cells has Keras's cells too, with "
            "their arguments and weights: kseq.cells.LSTMCell(16)."
        )


def hand_down_precision(cell: Cell, outer: Cell) -> None:
    """Give a cell and the layers in it the precision of the cell around them.

    Raises:
        ValueError: If it has weights of another precision already.
    """
    for layer in cell._flatten_layers():
        if layer.dtype_policy != outer.dtype_policy:
            if layer.built:
                raise ValueError(
                    f"{type(outer).__name__} is to compute in {outer.dtype_policy.name}, but the weights of "
                    f"{layer.name} have been made in {layer.dtype_policy.name}. Give both the same dtype."
                )
            layer.dtype_policy = outer.dtype_policy
