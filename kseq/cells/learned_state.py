"""A cell with a learned initial state."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells.cell import Cell
from kseq.cells.wrapper import WrapperCell


@keras.saving.register_keras_serializable(package="kseq")
class LearnedStateCell(WrapperCell):
    """A cell whose initial state is learned.

        s_0 = the inner cell's initial state + w,   the same for all rows

    If a layer gets an `initial_state`, it uses that one instead.

    Args:
        cell: The inner cell.
        initializer: Initializer of w.
        regularizer: Regularizer of w, or None.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments: the inner cell's.

    Example:
        >>> layer = kseq.layers.RNN(kseq.cells.LearnedStateCell(kseq.cells.LSTMCell(16)))
        >>> layer(np.zeros((2, 10, 8))).shape
        (2, 16)

    Reference: M. Forcada, R. Carrasco, "Learning the initial state of a second-order recurrent neural network during
    regular-language inference", 1995.
    """

    def __init__(self, cell: Cell, initializer: Any = "zeros", regularizer: Any = None, **kwargs: Any):
        super().__init__(cell, **kwargs)
        self.initializer = keras.initializers.get(initializer)
        self.regularizer = keras.regularizers.get(regularizer)

    def build(self, input_shape: tuple) -> None:
        """Create the inner cell's weights and w, one weight for each tensor of the state."""
        super().build(input_shape)
        self.initial_states = [
            self.add_weight(
                shape=tuple(state.shape[1:]),
                name=f"initial_state_{index}",
                initializer=keras.initializers.get(keras.initializers.serialize(self.initializer)),
                regularizer=self.regularizer,
            )
            for index, state in enumerate(self.cell.get_initial_state(1))
        ]

    def get_initial_state(self, batch_size: int | Tensor | None = None) -> list[Tensor]:
        """Return the learned state, `(batch_size, units)` for each state tensor.

        Raises:
            ValueError: If the cell is not built yet.
        """
        if not self.built:
            raise ValueError(
                f"{self.name} has no initial state before it has weights. Call build((None, features)), or use it in "
                "a layer, first."
            )
        own = self.cell.get_initial_state(batch_size)
        return [state + ops.cast(learned, state.dtype) for state, learned in zip(own, self.initial_states, strict=True)]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "initializer": keras.initializers.serialize(self.initializer),
            "regularizer": keras.regularizers.serialize(self.regularizer),
        }
