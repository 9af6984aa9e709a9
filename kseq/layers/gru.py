"""The GRU layer."""

import keras

from kseq.cells import GRUCell
from kseq.layers.rnn import RNN, adopt


@keras.saving.register_keras_serializable(package="kseq")
class GRU(RNN, keras.layers.GRU):
    """`keras.layers.GRU`, run by kseq's engine: the same arguments, weights and answers.

    The equations are at `kseq.cells.GRUCell`, the call arguments at `kseq.layers.RNN`. `reset_after=False` is run
    step by step.

    Example:
        >>> kseq.layers.GRU(16, return_sequences=True)(np.zeros((2, 10, 8))).shape
        (2, 10, 16)
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        adopt(self.cell, GRUCell)
