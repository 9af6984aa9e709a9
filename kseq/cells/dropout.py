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


@keras.saving.register_keras_serializable(package="kseq")
class DropoutCell(DropoutMasks, WrapperCell):
    """A cell with variational dropout: of a row's sequence the same units are dropped at all steps.

        h_t, s_t = cell(m_x * x_t, s_{t-1})   with m_h * h_{t-1} in its recurrent map
        y_t = m_y * h_t

    where each m is 0 with its rate and 1 / (1 - rate) otherwise. Gates that use h_{t-1} itself, as a GRU's do, see all
    of it. At inference, and with rates of 0, it is the inner cell.

    A recurrent layer draws new masks at each call. Stepped by hand in training, a cell keeps the masks it drew at the
    first step until `reset_dropout_mask()`, and `reset_recurrent_dropout_mask()`, are called: call both before a new
    sequence. Under `jax.jit` or in a `tf.function` the steps of a sequence belong into one traced function.

    Args:
        cell: The inner cell.
        input_dropout: Rate of m_x, the share that is dropped.
        recurrent_dropout: Rate of m_h. Only around cells that are run by their pieces.
        output_dropout: Rate of m_y. The state is not dropped.
        seed: An int, for the same masks in every run; None for others each time.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments: the inner cell's.

    Raises:
        ValueError: If a rate is outside [0, 1), or with `recurrent_dropout` if the inner cell is not run by its
            pieces (`ResidualCell`, `StackedCells`, `GRUCell(reset_after=False)`).

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
        rates = {"input": input_dropout, "recurrent": recurrent_dropout, "output": output_dropout}
        for name, rate in rates.items():
            if not 0.0 <= rate < 1.0:
                raise ValueError(f"{name}_dropout={rate}, but it is a share: give at least 0 and less than 1.")
        if recurrent_dropout:
            self.check_equations(separable=True)
        self.input_dropout, self.recurrent_dropout, self.output_dropout = rates.values()
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def get_dropout_mask(self, step_input: Tensor) -> Tensor | None:
        """Return m_x for inputs `(batch, features)`, drawn once for a sequence; the inner cell draws its own."""
        WrapperCell.get_dropout_mask(self, step_input)
        return self._kept("input", self.input_dropout, lambda: step_input)

    def get_recurrent_dropout_mask(self, step_input: Tensor) -> Tensor | None:
        """Return m_h, and draw m_y, for a batch of as many rows as the given tensor has."""
        WrapperCell.get_recurrent_dropout_mask(self, step_input)
        batch_size = ops.shape(step_input)[0]
        mask = self._kept("recurrent", self.recurrent_dropout, lambda: self.get_initial_state(batch_size)[0])
        self._output_mask(batch_size)
        return mask

    def _output_mask(self, batch_size: int | Tensor) -> Tensor | None:
        shape = (batch_size, *axes(self.output_size))
        return self._kept("output", self.output_dropout, lambda: ops.zeros(shape, dtype=self.compute_dtype))

    def _kept(self, kind: str, rate: float, like: Callable[[], Tensor]) -> Tensor | None:
        """Return the mask of this kind, drawn once for a sequence; None at a rate of 0."""
        if not rate:
            return None
        return self.kept_mask(kind, lambda: backend.dropout_mask(like(), rate, self.seed_generator))

    def reset_dropout_mask(self) -> None:
        """Forget m_x: a new sequence begins."""
        WrapperCell.reset_dropout_mask(self)
        self.forget_masks("input")

    def reset_recurrent_dropout_mask(self) -> None:
        """Forget m_h and m_y."""
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
        """Take all steps, with the same units dropped at each."""
        batch_size = ops.shape(inputs)[1]
        if training and self.recurrent_dropout:
            outputs, final = engine.run(self, inputs, state, mask, training=training, **options)
        else:
            inputs = self._drop_inputs(inputs, training)
            outputs, final = self.cell.run(inputs, state, mask, training=training, **options)
        return self._drop_outputs(outputs, batch_size, training), final

    def call(self, inputs: Tensor, states: State, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Take one step, with the units dropped that were at the first."""
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
