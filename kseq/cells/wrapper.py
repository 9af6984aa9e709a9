"""Cells made of other cells, and a cell around another."""

import contextlib
from collections.abc import Iterator
from typing import Any, Self

import keras
from keras import ops
from keras.src.backend.common import global_state  # where Keras keeps what it has seen in a file
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell  # Keras's loop looks for it to draw and drop masks

from kseq.backend import Tensor
from kseq.cells.cell import Cell, axes, projects_rows_apart
from kseq.equations import Equations, State


class OuterCell(Cell, DropoutRNNCell):
    """A cell made of others, `inner_cells`. Has them draw and forget the dropout masks of a sequence.

    `kseq.layers.RNN` does so by itself; `keras.layers.RNN` calls these methods, before its loop and after it.
    """

    inner_cells: list[Cell]

    def is_separable(self, training: bool) -> bool:
        """Whether all inner cells are."""
        return all(cell.is_separable(training) for cell in self.inner_cells)

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
    """A cell that changes something of another cell, which it leaves as it is in everything else.

    A subclass overrides what it changes: a piece (`projections`, `recurrent_arguments`), `equations` for what lies
    between (never `gates` or `recur`, which say what `equations` does), `run` and `call`, or `get_initial_state`. A
    wrapper around a wrapper changes what the inner one made. Its precision is the inner cell's; a `dtype` that is given
    becomes that of both.

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

    def check_pieces(self, *, separable: bool = False) -> None:
        """Raise if the inner cell is not run by its pieces, so that none can be changed, or not in every case."""
        inner, own = type(self.cell).__name__, type(self).__name__
        if not self.cell.has_pieces():
            way_out = "It goes around cells with gates that see the hidden state, such as LSTMCell and GRUCell."
            if isinstance(self.cell, OuterCell):
                way_out = f"Put {own} inside: {inner}({own}(cell)) for a wrapper, each cell in a {own} for a stack."
            raise ValueError(
                f"{own} changes the gates, or what goes into them, but {inner} takes its steps in a way of its own. "
                f"{way_out}"
            )
        if separable and not self.cell.is_separable(training=True):
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
        """Return the inner cell's projection."""
        return self.cell.project(inputs)

    def projections(self, inputs: Tensor, mask: Tensor | None = None, training: bool = False) -> Any:
        """Return what the inner cell's gates take of the inputs."""
        return self.cell.projections(inputs, mask, training)

    def projects_rows_apart(self, training: bool) -> bool:
        """Whether the inner cell does."""
        return projects_rows_apart(self.cell, training)

    @property
    def recurrent_weights(self) -> Any:
        """The inner cell's."""
        return self.cell.recurrent_weights

    def recurrent_arguments(self, batch_size: int | Tensor, training: bool) -> Any:
        """Return what the inner cell's recurrent map takes."""
        return self.cell.recurrent_arguments(batch_size, training)

    @property
    def gate_weights(self) -> tuple:
        """The inner cell's."""
        return self.cell.gate_weights

    def equations(self) -> Equations:
        """Return the inner cell's functions; a subclass replaces some."""
        return self.cell.equations()

    def recur(self, hidden: Tensor, recurrent_weights: Any) -> Tensor:
        """Return the recurrent map of `equations`."""
        return self.equations().recur(hidden, recurrent_weights)

    def gates(self, projected: Any, recurrent: Tensor, state: State, *gate_weights: Tensor) -> State:
        """Return the new state, by the gates of `equations`."""
        return self.equations().gates(projected, recurrent, state, *gate_weights)

    def has_pieces(self) -> bool:
        """Whether the inner cell has."""
        return self.cell.has_pieces()

    def run(
        self, inputs: Tensor, state: State, mask: Tensor | None = None, *, training: bool = False, **options: Any
    ) -> tuple[Tensor, State]:
        """Take all steps: by this cell's pieces, or as the inner cell does."""
        run = super().run if self.cell.has_pieces() else self.cell.run
        return run(inputs, state, mask, training=training, **options)

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
    """Return what makes a cell like `cell`: its configuration, without its weights and their shapes."""
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
