"""Recurrent cells. A cell is one step of a recurrence, which `kseq.layers.RNN` runs over whole sequences."""

from kseq.cells.batch_norm import BatchNormCell
from kseq.cells.cell import Cell
from kseq.cells.conv_lstm import ConvLSTMCell
from kseq.cells.coupled_lstm import CoupledLSTMCell
from kseq.cells.dropout import DropoutCell
from kseq.cells.gru import GRUCell, GRUState
from kseq.cells.layer_norm_gru import LayerNormGRUCell
from kseq.cells.layer_norm_lstm import LayerNormLSTMCell
from kseq.cells.learned_state import LearnedStateCell
from kseq.cells.lstm import LSTMCell, LSTMState
from kseq.cells.min_gru import MinGRUCell, positive
from kseq.cells.min_lstm import MinLSTMCell
from kseq.cells.parallel_cell import LinearState
from kseq.cells.peephole_lstm import PeepholeLSTMCell
from kseq.cells.projection_lstm import ProjectionLSTMCell, ProjectionLSTMState
from kseq.cells.residual import ResidualCell
from kseq.cells.rg_lru import RGLRUCell
from kseq.cells.simple_rnn import SimpleRNNCell, SimpleRNNState
from kseq.cells.stacked import StackedCells
from kseq.cells.weight_drop import WeightDropCell
from kseq.cells.zoneout import ZoneoutCell

__all__ = [
    "BatchNormCell",
    "Cell",
    "ConvLSTMCell",
    "CoupledLSTMCell",
    "DropoutCell",
    "GRUCell",
    "GRUState",
    "LSTMCell",
    "LSTMState",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LearnedStateCell",
    "LinearState",
    "MinGRUCell",
    "MinLSTMCell",
    "PeepholeLSTMCell",
    "ProjectionLSTMCell",
    "ProjectionLSTMState",
    "RGLRUCell",
    "ResidualCell",
    "SimpleRNNCell",
    "SimpleRNNState",
    "StackedCells",
    "WeightDropCell",
    "ZoneoutCell",
    "positive",
]


def __dir__() -> list[str]:
    return __all__
