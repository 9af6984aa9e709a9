"""The LSTM layer."""

import keras

from kseq.cells import LSTMCell
from kseq.layers.rnn import RNN, adopt


@keras.saving.register_keras_serializable(package="kseq")
class LSTM(RNN, keras.layers.LSTM):
    """`keras.layers.LSTM`, run by kseq's engine: the same arguments, weights and answers.

    The equations are at `kseq.cells.LSTMCell`, the call arguments at `kseq.layers.RNN`.

    Example:
        >>> outputs, hidden, cell = kseq.layers.LSTM(16, return_sequences=True, return_state=True)(np.zeros((2, 10, 8)))
        >>> outputs.shape, hidden.shape, cell.shape
        ((2, 10, 16), (2, 16), (2, 16))
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        adopt(self.cell, LSTMCell)
        self.cell.check_bias()  # an adopted cell keeps the `build` it was made with
