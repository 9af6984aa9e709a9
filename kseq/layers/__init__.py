"""Keras layers over the pure parts."""

from kseq.layers.bidirectional import Bidirectional
from kseq.layers.gru import GRU
from kseq.layers.lstm import LSTM
from kseq.layers.rnn import RNN
from kseq.layers.simple_rnn import SimpleRNN

__all__ = ["GRU", "LSTM", "RNN", "Bidirectional", "SimpleRNN"]
