"""The plain recurrent layer."""

import keras

from kseq.cells import SimpleRNNCell
from kseq.layers.rnn import RNN, adopt


@keras.saving.register_keras_serializable(package="kseq")
class SimpleRNN(RNN, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN`, run by kseq's engine: the same arguments, weights and answers.

    The equations are at `kseq.cells.SimpleRNNCell`, the call arguments at `kseq.layers.RNN`.

    Example:
        >>> kseq.layers.SimpleRNN(16)(np.zeros((2, 10, 8))).shape
        (2, 16)
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        adopt(self.cell, SimpleRNNCell)
