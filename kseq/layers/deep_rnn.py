"""Stacked recurrent layers with an output projection."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.layers.stacked_rnn import StackedRNN
from kseq.linear import dense
from kseq.numbers import positive_int


@keras.saving.register_keras_serializable(package="kseq")
class DeepRNN(StackedRNN):
    """A `StackedRNN` with an output projection: the textbook's deep recurrent network.

        y = activation(h W + b)   with h the output of the stack

    With `return_sequences` y is computed at every step, otherwise at the last real step.

    Args:
        layers: Recurrent layers, lowest first, as `StackedRNN` takes them.
        output_units: Size of y.
        output_activation: `"softmax"`, another activation, or None for logits.
        **kwargs: Arguments of `StackedRNN`.

    Call arguments: those of `StackedRNN`.

    Returns:
        y, `(batch, time, output_units)` or `(batch, output_units)`; with `return_state` a tuple of it and the final
        states.

    Raises:
        ValueError: As `StackedRNN` does.

    Example:
        >>> layers = [kseq.layers.GRU(32), kseq.layers.GRU(32)]
        >>> kseq.layers.DeepRNN(layers, 10, return_sequences=True)(np.zeros((2, 6, 8))).shape
        (2, 6, 10)

    Reference: A. Graves, "Generating sequences with recurrent neural networks", 2013.
    """

    def __init__(self, layers: list, output_units: int, *, output_activation: Any = "softmax", **kwargs: Any):
        super().__init__(layers, **kwargs)
        self.output_units = positive_int(self, "output_units", output_units)
        self.output_activation = keras.activations.get(output_activation)

    def build(self, sequences_shape: tuple, initial_state_shape: Any = None) -> None:
        """Create the weights of all layers and of the projection."""
        super().build(sequences_shape, initial_state_shape)
        units = self.layers[-1].compute_output_shape((*sequences_shape[:2], None))[0][-1]
        self.output_kernel = self.add_weight(shape=(units, self.output_units), name="output_kernel")
        self.output_bias = self.add_weight(shape=(self.output_units,), initializer="zeros", name="output_bias")

    def read_out(self, values: Tensor) -> Tensor:
        """Return y, given the outputs h of the stack."""
        return self.output_activation(ops.add(dense(values, self.output_kernel), self.output_bias))

    def compute_output_shape(self, sequences_shape: tuple, initial_state_shape: Any = None) -> tuple:
        """Return the shape of y, and with `return_state` those of the states."""
        shape = super().compute_output_shape(sequences_shape, initial_state_shape)
        if self.return_state:
            return ((*shape[0][:-1], self.output_units), *shape[1:])
        return (*shape[:-1], self.output_units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "output_units": self.output_units,
            "output_activation": keras.activations.serialize(self.output_activation),
        }
