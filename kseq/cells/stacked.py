"""A stack of cells."""

from collections.abc import Sequence
from typing import Any, Self

import keras

from kseq.backend import Tensor
from kseq.cells.cell import Cell, axes
from kseq.cells.copies import config_of
from kseq.cells.wrapper import OuterCell, check_cell
from kseq.engine import State
from kseq.inner_layers import freeze_inner_layers, hand_down_precision


@keras.saving.register_keras_serializable(package="kseq")
class StackedCells(OuterCell):
    """A stack of cells as one cell: each cell reads the output of the one below it.

        y_0 = x;   (y_l, s_l) = cell_l(y_{l-1}, s_l)

    A whole sequence runs cell by cell: each cell runs over all steps before the next cell, as fast as it would alone. A
    decoder, which needs one step of the whole stack, calls it. The weights have the order of
    `keras.layers.StackedRNNCells`. The state is a flat list, the tensors of the lowest cell first. (Keras's state has
    one list for each cell, with the same tensors in the same order.) `kseq.layers.RNN([cell, ...])` makes a
    `StackedCells`.

    Args:
        cells: The cells, lowest first.
        **kwargs: Arguments of `keras.layers.Layer`. `dtype` applies to all cells; by default it is that of the lowest.

    Call arguments:
        inputs: Float `(batch, features)`.
        states: The states of all cells, lowest first.
        training: Whether dropout is on.

    Raises:
        ValueError: If there are no cells, or one is not a kseq cell, or one is listed twice.

    Example:
        >>> stack = kseq.cells.StackedCells([kseq.cells.LSTMCell(32), kseq.cells.GRUCell(16)])
        >>> output, hidden, memory, gru = kseq.layers.RNN(stack, return_state=True)(np.zeros((2, 10, 8)))
        >>> output.shape, hidden.shape, memory.shape, gru.shape
        ((2, 16), (2, 32), (2, 32), (2, 16))

    Reference: A. Graves, A. Mohamed, G. Hinton, "Speech recognition with deep recurrent neural networks", 2013.
    """

    def __init__(self, cells: Sequence[Cell], **kwargs: Any):
        if not cells:
            raise ValueError("StackedCells got no cell. Give a list of at least one: StackedCells([LSTMCell(16)]).")
        for index, cell in enumerate(cells):
            check_cell(self, cell)
            if any(cell is other for other in cells[:index]):
                raise ValueError(f"Cell {index} of StackedCells, {cell.name}, is listed twice. Make one for each.")
        super().__init__(**{**kwargs, "dtype": kwargs.get("dtype") or cells[0].dtype_policy})
        for cell in cells:
            hand_down_precision(cell, self)
        self.cells = list(cells)
        freeze_inner_layers(self)

    @property
    def inner_cells(self) -> list[Cell]:
        """All cells."""
        return self.cells

    @property
    def state_size(self) -> list:
        """Units of each state tensor, those of the lowest cell first."""
        return [size for cell in self.cells for size in _sizes(cell)]

    @property
    def output_size(self) -> Any:
        """Units of the top cell's output."""
        return self.cells[-1].output_size

    def build(self, input_shape: tuple) -> None:
        """Create the weights of all cells."""
        for cell in self.cells:
            if not cell.built:
                cell.build(input_shape)
            input_shape = (input_shape[0], *axes(cell.output_size))

    def get_initial_state(self, batch_size: int | Tensor | None = None) -> list[Tensor]:
        """Return the initial states of all cells, lowest first."""
        return [state for cell in self.cells for state in cell.get_initial_state(batch_size)]

    def equations(self, training: bool = False) -> None:
        """Return None: each cell is run with its own equations."""

    def run(
        self, inputs: Tensor, state: State, mask: Tensor | None = None, *, return_sequences: bool = True, **options: Any
    ) -> tuple[Tensor, State]:
        """Run each cell over all steps before the next cell."""
        final: tuple = ()
        for cell, own in self._with_states(state):
            sequences = return_sequences or cell is not self.cells[-1]
            inputs, after = cell.run(inputs, own, mask, return_sequences=sequences, **options)
            final += tuple(after)
        return inputs, final

    def call(self, inputs: Tensor, states: State, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Take one step of all cells."""
        new: list[Tensor] = []
        for cell, own in self._with_states(states):
            inputs, after = cell(inputs, list(own), training=training)
            new += after
        return inputs, new

    def _with_states(self, state: State) -> list[tuple[Cell, State]]:
        """Return each cell with its part of the state."""
        parts, rest = [], tuple(state)
        for cell in self.cells:
            count = len(_sizes(cell))
            parts.append((cell, rest[:count]))
            rest = rest[count:]
        return parts

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "cells": [config_of(cell) for cell in self.cells]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a stack from `get_config`."""
        cells = [keras.saving.deserialize_keras_object(cell) for cell in config["cells"]]
        return cls(**{**config, "cells": cells})


def _sizes(cell: Cell) -> list:
    """Return the cell's `state_size` as a list."""
    return list(cell.state_size) if isinstance(cell.state_size, list | tuple) else [cell.state_size]
