"""The plain recurrent layer."""

from typing import Any

import keras

from kseq.cells import SimpleRNNCell
from kseq.layers.rnn import RNN


@keras.saving.register_keras_serializable(package="kseq")
class SimpleRNN(RNN, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` on kseq's engine, with the same arguments, weights and results.

    See `kseq.cells.SimpleRNNCell` for the equations and `kseq.layers.RNN` for the call arguments.

    Args:
        units: Size of the output.
        activation: Activation of the sum; None for the identity.
        use_bias: Whether there is a bias.
        kernel_initializer: Initializer of W.
        recurrent_initializer: Initializer of U.
        bias_initializer: Initializer of the bias.
        kernel_regularizer: Regularizer of W.
        recurrent_regularizer: Regularizer of U.
        bias_regularizer: Regularizer of the bias.
        activity_regularizer: Regularizer of the layer's output.
        kernel_constraint: Constraint of W.
        recurrent_constraint: Constraint of U.
        bias_constraint: Constraint of the bias.
        dropout: Share of the inputs that is dropped in training, the same ones at all steps of a sequence.
        recurrent_dropout: Share of the hidden state that is dropped for the recurrent product, likewise.
        return_sequences: Whether to return the outputs of all steps instead of the last one.
        return_state: Whether to return the final states, too.
        go_backwards: Whether to run from the last step to the first. Outputs are in the order in which steps ran.
        stateful: Whether a batch starts from the final states of the previous batch.
        unroll: Whether to unroll the loop, which needs a fixed number of steps.
        seed: Seed of both dropouts; None for different ones in every run.
        **kwargs: `zero_output_for_mask`, `jit_compile` (see `kseq.layers.RNN`) and those of `keras.layers.Layer`.

    Raises:
        ValueError: If `units` is no positive int, or a dropout is no number from 0 to 1.

    Example:
        >>> kseq.layers.SimpleRNN(16)(np.zeros((2, 10, 8))).shape
        (2, 16)
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ):
        cell = SimpleRNNCell(
            units,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name="simple_rnn_cell",
        )
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments; Keras's config lacks `seed`."""
        return {**super().get_config(), "seed": self.cell.seed}
