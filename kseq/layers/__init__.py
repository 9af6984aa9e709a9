"""Recurrent, Transformer and Conformer Keras layers, positions, poolings, and the conditional random field."""

from kseq.layers.adaptive_softmax import AdaptiveSoftmax
from kseq.layers.attention_rnn import AttentionRNN
from kseq.layers.bidirectional import Bidirectional
from kseq.layers.char_ngram_embedding import CharNGramEmbedding
from kseq.layers.conformer_layer import ConformerLayer
from kseq.layers.crf import CRF
from kseq.layers.deep_rnn import DeepRNN
from kseq.layers.from_keras import from_keras
from kseq.layers.gru import GRU
from kseq.layers.learned_positional_embedding import LearnedPositionalEmbedding
from kseq.layers.lstm import LSTM
from kseq.layers.rnn import RNN
from kseq.layers.sequence_pooling import SequencePooling
from kseq.layers.simple_rnn import SimpleRNN
from kseq.layers.sinusoidal_positional_encoding import SinusoidalPositionalEncoding
from kseq.layers.stacked_rnn import StackedRNN
from kseq.layers.transformer_decoder_layer import TransformerDecoderLayer
from kseq.layers.transformer_encoder_layer import TransformerEncoderLayer

__all__ = [
    "CRF",
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveSoftmax",
    "AttentionRNN",
    "Bidirectional",
    "CharNGramEmbedding",
    "ConformerLayer",
    "DeepRNN",
    "LearnedPositionalEmbedding",
    "SequencePooling",
    "SimpleRNN",
    "SinusoidalPositionalEncoding",
    "StackedRNN",
    "TransformerDecoderLayer",
    "TransformerEncoderLayer",
    "from_keras",
]


def __dir__() -> list[str]:
    return __all__
