"""Recurrent cells: one step each, with the pieces from which `kseq.layers.RNN` runs whole sequences."""

from kseq.cells.cell import Cell
from kseq.cells.gru import GRUCell, GRUState
from kseq.cells.lstm import LSTMCell, LSTMState
from kseq.cells.simple_rnn import SimpleRNNCell, SimpleRNNState

__all__ = ["Cell", "GRUCell", "GRUState", "LSTMCell", "LSTMState", "SimpleRNNCell", "SimpleRNNState"]
