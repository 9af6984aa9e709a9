"""A cell with variational dropout."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kseq import backend, engine
from kseq.backend import Tensor
from kseq.cells.cell import Cell, axes
from kseq.cells.dropout_masks import DropoutMasks
from kseq.cells.recurrent_dropout import with_recurrent_dropout
from kseq.cells.wrapper import WrapperCell
from kseq.engine import Equations, State
from kseq.numbers import plain_seed, share


@keras.saving.register_keras_serializable(package="kseq")
class DropoutCell(DropoutMasks, WrapperCell):
    """A cell with variational dropout: each row drops the same units at all steps of its sequence.

        h_t, s_t = cell(m_x * x_t, s_{t-1})   with m_h * h_{t-1} in its recurrent map
        y_t = m_y * h_t

    where each mask m is 0 with the probability of its rate and 1 / (1 - rate) otherwise. Gates that use h_{t-1} itself,
    as in a GRU, use it without dropout. At inference, and with rates of 0, the cell equals the inner cell.

    A recurrent layer draws new masks at each call. If you call the cell for one step at a time in training, it keeps
    the masks of the first step. Before a new sequence, call both `reset_dropout_mask()` and
    `reset_recurrent_dropout_mask()`. Under `jax.jit` or in a `tf.function`, all steps of a sequence must be in one
    traced function.

    Args:
        cell: The inner cell.
        input_dropout: Rate of m_x: the share of units that is dropped.
        recurrent_dropout: Rate of m_h. Only for inner cells that are run through `project`, `recur` and `gates`.
        output_dropout: Rate of m_y. The state has no dropout.
        seed: An int for the same masks in every run; None for different ones.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments: the inner cell's.

    Raises:
        ValueError: If a rate is outside [0, 1], or if there is `recurrent_dropout` and the inner cell is not run
            through `project`, `recur` and `gates` (`ResidualCell`, `StackedCells`, `GRUCell(reset_after=False)`).

    Example:
        >>> cell = kseq.cells.DropoutCell(kseq.cells.LSTMCell(16), input_dropout=0.2, recurrent_dropout=0.2)
        >>> kseq.layers.RNN(cell, return_sequences=True)(np.zeros((2, 10, 8)), training=True).shape
        (2, 10, 16)

    Reference: Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks",
    2016.
    """

    def __init__(
        self,
        cell: Cell,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        output_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(cell, **kwargs)
        self.input_dropout = share(self, "input_dropout", input_dropout)
        self.recurrent_dropout = share(self, "recurrent_dropout", recurrent_dropout)
        self.output_dropout = share(self, "output_dropout", output_dropout)
        if recurrent_dropout:
            self.check_equations(separable=True)
        self.seed = plain_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def get_dropout_mask(self, step_input: Tensor) -> Tensor | None:
        """Return m_x for inputs `(batch, features)`, drawn once for a sequence. The inner cell draws its masks too."""
        WrapperCell.get_dropout_mask(self, step_input)
        return self._kept("input", self.input_dropout, lambda: step_input)

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> Tensor | None:
        """Return m_h, and draw m_y, for the number of rows of `step_input`."""
        WrapperCell.get_recurrent_dropout_mask(self, step_input)
        batch_size = ops.shape(step_input)[0]
        mask = self._kept("recurrent", self.recurrent_dropout, lambda: self.get_initial_state(batch_size)[0])
        self._output_mask(batch_size)
        return mask

    def _output_mask(self, batch_size: int | Tensor) -> Tensor | None:
        shape = (batch_size, *axes(self.output_size))
        return self._kept("output", self.output_dropout, lambda: ops.zeros(shape, dtype=self.compute_dtype))

    def _kept(self, kind: str, rate: float, like: Callable[[], Tensor]) -> Tensor | None:
        """Return the mask of this kind, drawn once for a sequence; None if the rate is 0."""
        if not rate:
            return None
        return self.kept_mask(kind, lambda: backend.dropout_mask(like(), rate, self.seed_generator))

    def reset_dropout_mask(self) -> None:
        """Discard m_x, before a new sequence."""
        WrapperCell.reset_dropout_mask(self)
        self.forget_masks("input")

    def reset_recurrent_dropout_mask(self) -> None:
        """Discard m_h and m_y, before a new sequence."""
        WrapperCell.reset_recurrent_dropout_mask(self)
        self.forget_masks("recurrent", "output")

    def _drop_inputs(self, inputs: Tensor, training: bool) -> Tensor:
        """Multiply inputs `(batch, features)` or `(time, batch, features)` by m_x."""
        if not (training and self.input_dropout):
            return inputs
        return inputs * self.get_dropout_mask(inputs[0] if self.is_sequence(inputs) else inputs)

    def _drop_outputs(self, outputs: Tensor, batch_size: int | Tensor, training: bool) -> Tensor:
        """Multiply outputs `(batch, units)` or `(time, batch, units)` by m_y."""
        if not (training and self.output_dropout):
            return outputs
        self.get_recurrent_dropout_mask(ops.zeros((batch_size,)))  # m_h is drawn before m_y
        return outputs * self._output_mask(batch_size)

    def equations(self, training: bool = False) -> Equations | None:
        """Return the inner cell's functions and weights, with dropout before its projection and recurrent map."""
        equations = self.cell.equations(training)
        if equations is None:
            return None
        inner = equations.project
        if training and self.input_dropout:
            equations = equations._replace(
                project=lambda inputs, mask: inner(self._drop_inputs(inputs, training), mask), projects_rows_apart=False
            )
        if training and self.recurrent_dropout:
            equations = with_recurrent_dropout(
                equations, lambda batch_size: [self.get_recurrent_dropout_mask(ops.zeros((batch_size,)))]
            )
        return equations._replace(output_is_state=equations.output_is_state and not self.output_dropout)

    def run(
        self, inputs: Tensor, state: State, mask: Tensor | None = None, *, training: bool = False, **options: Any
    ) -> tuple[Tensor, State]:
        """Run all steps, dropping the same units at each."""
        batch_size = ops.shape(inputs)[1]
        if training and self.recurrent_dropout:
            outputs, final = engine.run(self, inputs, state, mask, training=training, **options)
        else:
            inputs = self._drop_inputs(inputs, training)
            outputs, final = self.cell.run(inputs, state, mask, training=training, **options)
        return self._drop_outputs(outputs, batch_size, training), final

    def call(self, inputs: Tensor, states: State, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Take one step, dropping the same units as at the first step."""
        if training and self.recurrent_dropout:
            output, new = Cell.call(self, inputs, states, training=training)
        else:
            output, new = self.cell(self._drop_inputs(inputs, training), states, training=training)
        return self._drop_outputs(output, ops.shape(inputs)[0], training), new

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "input_dropout": self.input_dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "output_dropout": self.output_dropout,
            "seed": self.seed,
        }
