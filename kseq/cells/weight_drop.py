"""A cell with dropout of its recurrent weights."""

from typing import Any

import keras
from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.cells.cell import Cell
from kseq.cells.dropout_masks import DropoutMasks
from kseq.cells.wrapper import WrapperCell
from kseq.engine import Equations, Weights
from kseq.numbers import plain_seed, share


@keras.saving.register_keras_serializable(package="kseq")
class WeightDropCell(DropoutMasks, WrapperCell):
    """A cell whose recurrent weights have dropout: the same ones for all rows and steps of a call.

        h_t, s_t = cell(x_t, s_{t-1})   with M * U in place of each recurrent kernel U

    where M is 0 with the probability `rate` and 1 / (1 - rate) otherwise. Recurrent biases have no dropout. At
    inference, and with a rate of 0, the cell equals the inner cell. A loop with it is as fast as without.

    A recurrent layer draws a new mask at each call. If you call the cell for one step at a time in training, it keeps
    the mask of the first step, until `reset_recurrent_dropout_mask()`.

    Args:
        cell: The inner cell, one that is run through `project`, `recur` and `gates`.
        rate: The share of the weights that is dropped.
        seed: An int for the same masks in every run; None for different ones.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments: the inner cell's.

    Raises:
        ValueError: If the rate is outside [0, 1], or the inner cell is not run through `project`, `recur` and `gates`
            (`ResidualCell`, `StackedCells`, `GRUCell(reset_after=False)`).

    Example:
        >>> cell = kseq.cells.WeightDropCell(kseq.cells.LSTMCell(16), rate=0.5)
        >>> kseq.layers.RNN(cell, return_sequences=True)(np.zeros((2, 10, 8)), training=True).shape
        (2, 10, 16)

    Reference: S. Merity, N. Keskar, R. Socher, "Regularizing and optimizing LSTM language models", 2018.
    """

    def __init__(self, cell: Cell, rate: float = 0.5, seed: int | None = None, **kwargs: Any):
        super().__init__(cell, **kwargs)
        self.rate = share(self, "rate", rate)
        if self.rate:
            self.check_equations(separable=True)
        self.seed = plain_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def equations(self, training: bool = False) -> Equations | None:
        """Return the inner cell's functions and weights, with dropout of the recurrent kernels."""
        equations = self.cell.equations(training)
        if equations is None or not (training and self.rate):
            return equations
        inner = equations.weights

        def weights(batch_size: int | Tensor) -> Weights:
            found = inner(batch_size)
            masks = self.kept_mask("weights", lambda: self._draw(found.recurrent))
            kernels = iter(masks)
            dropped = tree.map_structure(
                lambda x: ops.convert_to_tensor(x) * next(kernels) if _is_kernel(x) else x, found.recurrent
            )
            return found._replace(recurrent=dropped)

        return equations._replace(weights=weights)

    def _draw(self, recurrent: Any) -> list[Tensor]:
        """Return a mask for each recurrent kernel."""
        kernels = [ops.convert_to_tensor(x) for x in tree.flatten(recurrent) if _is_kernel(x)]
        return [backend.dropout_mask(kernel, self.rate, self.seed_generator) for kernel in kernels]

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> None:
        """Have the inner cell draw its masks."""
        WrapperCell.get_recurrent_dropout_mask(self, step_input)

    def get_dropout_mask(self, step_input: Tensor) -> None:
        """Have the inner cell draw its masks."""
        WrapperCell.get_dropout_mask(self, step_input)

    def reset_dropout_mask(self) -> None:
        """Discard the inner cell's masks of inputs, before a new sequence."""
        WrapperCell.reset_dropout_mask(self)

    def reset_recurrent_dropout_mask(self) -> None:
        """Discard the mask, before a new sequence."""
        WrapperCell.reset_recurrent_dropout_mask(self)
        self.forget_masks("weights")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


def _is_kernel(weight: Any) -> bool:
    return len(weight.shape) > 1
