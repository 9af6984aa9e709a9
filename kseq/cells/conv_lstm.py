"""Convolutional long short-term memory."""

from typing import Any

import keras
from keras import ops
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell as KerasConvLSTMCell  # Keras exports its layers only

from kseq.backend import Tensor
from kseq.cells.lstm import LSTMGates


@keras.saving.register_keras_serializable(package="kseq")
class ConvLSTMCell(LSTMGates, KerasConvLSTMCell):
    """Long short-term memory over sequences of signals or images, whose products are convolutions (*).

        [i, f, g, o] = x * W + b + h * U
        c' = sigmoid(f) c + sigmoid(i) tanh(g)
        h' = sigmoid(o) tanh(c')

    Holds the weights of `keras.layers.ConvLSTM1D` and `ConvLSTM2D`, with gates in the order i, f, g, o: kernel W
    `(*kernel_size, channels, 4 filters)`, recurrent_kernel U `(*kernel_size, filters, 4 filters)`, bias b
    `(4 filters,)`. As in Keras, and unlike in the paper, there are no peepholes: the gates do not depend on the memory.
    Channels come last. The convolution of the hidden state has "same" padding, which keeps its size.

    The spatial sizes are known once the cell is built; before, `state_size` and `output_size` have None in their place.
    `keras.layers.RNN` runs this cell but cannot infer its output's shape in a functional model; `kseq.layers.RNN` can.

    Args:
        filters: Channels of the output.
        kernel_size: Size of both convolutions' windows: an int, or a tuple with one for each axis.
        rank: Number of spatial axes of a step: 1 or 2. By default the length of `kernel_size`, or 2 if it is an int.
        strides: Strides of the convolution of the inputs, an int or a tuple.
        padding: `"same"` or `"valid"`, for the convolution of the inputs.
        dilation_rate: Dilation of the convolution of the inputs, an int or a tuple.
        **kwargs: `activation`, `recurrent_activation`, `use_bias`, `unit_forget_bias`, `dropout`,
            `recurrent_dropout`, `seed`, and the initializers, regularizers and constraints of `kernel`,
            `recurrent_kernel` and `bias`, as in `keras.layers.ConvLSTM2D`.

    Call arguments:
        inputs: Float `(batch, length, channels)`, or `(batch, height, width, channels)` with rank 2.
        states: The hidden state h and the memory c, `(batch, length, filters)` or `(batch, height, width, filters)`.
        training: Whether dropout is on.

    Raises:
        ValueError: If an axis of the signal has no static size, or `rank` and the length of `kernel_size` differ.

    Example:
        >>> cell = kseq.cells.ConvLSTMCell(16, kernel_size=3)
        >>> kseq.layers.RNN(cell, return_sequences=True)(np.zeros((2, 10, 32, 32, 3))).shape
        (2, 10, 32, 32, 16)

    Reference: X. Shi et al., "Convolutional LSTM network: a machine learning approach for precipitation nowcasting",
    2015.
    """

    SPATIAL_RANK = 2  # by default

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple = 3,
        rank: int | None = None,
        strides: int | tuple = 1,
        padding: str = "same",
        dilation_rate: int | tuple = 1,
        **kwargs: Any,
    ) -> None:
        if rank is None:
            rank = self.SPATIAL_RANK if isinstance(kernel_size, int) else len(kernel_size)
        super().__init__(
            rank=rank,
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            data_format="channels_last",
            dilation_rate=dilation_rate,
            **kwargs,
        )
        self._set_sizes((None,) * rank)

    def build(self, inputs_shape: tuple, states_shape: list | None = None) -> None:
        """Create the weights, and set the sizes of the state."""
        inputs_shape = tuple(inputs_shape)  # a list when loaded from a file
        super().build(inputs_shape, states_shape)
        output_shape, _ = self.compute_output_shape(inputs_shape)
        self._set_sizes(output_shape[1:-1])

    def _set_sizes(self, spatial: tuple) -> None:
        self.output_size = (*spatial, self.filters)
        self.state_size = [self.output_size, self.output_size]  # h, c

    def map_inputs(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Return the convolution `inputs * kernel`, `(..., *spatial, 4 filters)`, with time merged into the batch."""
        shape = ops.shape(inputs)
        leading, signal = shape[: -self.rank - 1], shape[-self.rank - 1 :]
        convolved = ops.conv(
            ops.reshape(inputs, (-1, *signal)),
            kernel,
            strides=self.strides,
            padding=self.padding,
            data_format="channels_last",
            dilation_rate=self.dilation_rate,
        )
        return ops.reshape(convolved, (*leading, *convolved.shape[1:]))

    def recur(self, hidden: Tensor, recurrent_weights: Tensor) -> Tensor:
        """Return `hidden * recurrent_kernel`, `(rows, *spatial, filters)` to `(rows, *spatial, 4 filters)`."""
        return ops.conv(hidden, recurrent_weights, padding="same", data_format="channels_last")

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        config = super().get_config()
        del config["data_format"]
        return {**config, "rank": self.rank}
