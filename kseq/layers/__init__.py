"""Recurrent Keras layers, poolings of their outputs, and the conditional random field."""

from kseq.layers.bidirectional import Bidirectional
from kseq.layers.crf import CRF
from kseq.layers.deep_rnn import DeepRNN
from kseq.layers.from_keras import from_keras
from kseq.layers.gru import GRU
from kseq.layers.lstm import LSTM
from kseq.layers.rnn import RNN
from kseq.layers.sequence_pooling import SequencePooling
from kseq.layers.simple_rnn import SimpleRNN
from kseq.layers.stacked_rnn import StackedRNN

__all__ = [
    "CRF",
    "GRU",
    "LSTM",
    "RNN",
    "Bidirectional",
    "DeepRNN",
    "SequencePooling",
    "SimpleRNN",
    "StackedRNN",
    "from_keras",
]


def __dir__() -> list[str]:
    return __all__
