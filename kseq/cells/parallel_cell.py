"""The base of cells whose gates do not depend on the state, which need no loop over all steps."""

from typing import Any, NamedTuple

import keras
from keras import ops
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell  # Keras's loop handles masks of this class

from kseq import backend
from kseq.backend import Tensor
from kseq.cells.cell import Cell
from kseq.cells.dropout_masks import DropoutMasks
from kseq.engine import State
from kseq.engine.closure_check import refuse_gradients_of_captured
from kseq.engine.gated_linear_recurrence import GatedEquations, gated_linear_recurrence
from kseq.numbers import plain_seed, positive_int, share


class LinearState(NamedTuple):
    """State of a ParallelCell.

    Attributes:
        hidden: The output, `(batch, units)`.
    """

    hidden: Tensor


class ParallelCell(DropoutMasks, Cell, DropoutRNNCell):
    """A cell `h' = decay * h + increment`, whose decay and increment depend only on its inputs.

    The steps of such a recurrence can be combined in any grouping, so `run` needs no loop over all steps
    (`kseq.engine.gated_linear_recurrence`). There is no recurrent kernel. A subclass sets `gate_count` and defines
    `coefficients`, and `gate_weights` if it needs more weights.

    Weights: kernel `(features, gate_count * units)`, bias `(gate_count * units,)`.

    Args:
        units: Size of the state and the output.
        activation: Activation of the candidate; None for the identity.
        use_bias: Whether there is a bias.
        kernel_initializer: Initializer of the kernel.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Regularizer of the kernel.
        bias_regularizer: Regularizer of the bias.
        kernel_constraint: Constraint of the kernel.
        bias_constraint: Constraint of the bias.
        dropout: Share of the inputs' features that is dropped in training, the same ones at all steps of a sequence.
        seed: Seed of the dropout.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    gate_count: int
    recurrent_dropout = 0.0  # Keras's loop reads it

    def __init__(
        self,
        units: int,
        *,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        units, dropout = positive_int(self, "units", units), share(self, "dropout", dropout)
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.dropout = dropout
        self.seed = plain_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape: tuple) -> None:
        """Create the weights for inputs `(batch, features)`."""
        width = self.gate_count * self.units
        self.kernel = self.add_weight(
            shape=(input_shape[-1], width),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
            name="kernel",
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(width,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )

    def coefficients(self, projected: list[Tensor], *gate_weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the decay, between 0 and 1, and the increment, `(rows, units)` both. Must use only its arguments.

        Args:
            projected: The products of the inputs and the kernel plus the bias, one for each gate, `(rows, units)` each,
                in float32 or float64.
            *gate_weights: The tensors of `gate_weights`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define coefficients(projected).")

    def equations(self, training: bool = False) -> None:
        """Return None: `run` uses `coefficients` instead."""

    def _drop_inputs(self, inputs: Tensor, training: bool) -> Tensor:
        """Drop features of the inputs `(batch, features)` or `(time, batch, features)`."""
        if not (training and self.dropout > 0.0):
            return inputs
        return inputs * self.get_dropout_mask(inputs if len(inputs.shape) == 2 else inputs[0])

    def _create_dropout_mask(self, step_input: Tensor, dropout_rate: float) -> Tensor:
        """Draw the same mask as Keras's method of this name, in a fraction of its time under XLA."""
        return backend.dropout_mask(step_input, dropout_rate, self.seed_generator)

    def _kernels(self) -> list[Tensor]:
        """Return each gate's kernel with the bias as a last row, `(features + 1, units)`.

        Splitting the weights by gate means that no tensor as long as the sequence has to be split or concatenated.
        """
        kernel = ops.convert_to_tensor(self.kernel)
        if self.use_bias:
            kernel = ops.concatenate([kernel, ops.convert_to_tensor(self.bias)[None]], axis=0)
        return ops.split(kernel, self.gate_count, axis=-1)

    def _with_one(self, inputs: Tensor) -> Tensor:
        """Append a feature that is one and whose weight is the bias: the product then gives the bias's gradient too."""
        if not self.use_bias:
            return inputs
        return ops.concatenate([inputs, ops.ones_like(inputs[..., :1])], axis=-1)

    def run(
        self,
        inputs: Tensor,
        state: State,
        mask: Tensor | None = None,
        *,
        return_sequences: bool = True,
        unroll: bool = False,
        training: bool = False,
    ) -> tuple[Tensor, State]:
        """Run all steps; see `kseq.engine.run` for arguments and results. `unroll` has no effect."""
        equations = GatedEquations(_project, self.coefficients)
        inputs, kernels = self._with_one(self._drop_inputs(inputs, training)), self._kernels()
        gate_weights = tuple(ops.convert_to_tensor(w) for w in self.gate_weights)
        outputs = gated_linear_recurrence(equations, inputs, state[0], kernels, gate_weights, mask, training=training)
        outputs = refuse_gradients_of_captured(
            self,
            lambda x, kernels, weights: equations.precise_coefficients(equations.project(x, kernels), weights),
            (inputs[0], kernels, gate_weights),
            outputs,
        )
        outputs = ops.cast(outputs, self.compute_dtype)
        final = LinearState(outputs[-1])
        return (outputs if return_sequences else final.hidden), final

    def call(self, inputs: Tensor, states: State, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Take one step; see `Cell.call` for arguments and results."""
        (hidden,) = states if isinstance(states, list | tuple) else (states,)
        equations = GatedEquations(_project, self.coefficients)
        projected = equations.project(self._with_one(self._drop_inputs(inputs, training)), self._kernels())
        decay, increment = equations.precise_coefficients(projected, self.gate_weights)
        hidden = ops.cast(decay * ops.cast(hidden, decay.dtype) + increment, self.compute_dtype)
        return hidden, [hidden]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "dropout": self.dropout,
            "seed": self.seed,
        }


def _project(inputs: Tensor, kernels: list[Tensor]) -> list[Tensor]:
    return [ops.matmul(inputs, kernel) for kernel in kernels]
