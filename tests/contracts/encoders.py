"""A small instance of every encoder of `kseq.models`, with a batch; a new encoder is a line in ENCODERS."""

import keras
import numpy as np
import pytest

import kseq

IDS, TIME = 12, 6
LENGTHS = np.array([6, 3, 0, 5], "int32")


def _characters():
    return kseq.models.CharacterEncoder(IDS, 3, kseq.cells.LSTMCell(2))


def _recurrent(**options):
    return kseq.models.Encoder(IDS, 4, kseq.cells.GRUCell(3), **options)


def _words(**options):
    options = {"characters": _characters(), "word_dropout": 0.1, **options}
    return kseq.models.WordEncoder(IDS, 4, kseq.cells.LSTMCell(3), **options)


def _convolutional(**options):
    return kseq.models.ConvolutionalEncoder(IDS, 4, 3, kernel_sizes=(2, 3), **options)


def _backbone(kind="BertBackbone"):
    hub = pytest.importorskip("keras_hub", reason='needs keras-hub: pip install "kseq[hub]"', exc_type=ImportError)
    sizes = {"num_layers": 1, "num_heads": 2, "hidden_dim": 4, "intermediate_dim": 6, "max_sequence_length": 10}
    return kseq.models.BackboneEncoder(getattr(hub.models, kind)(vocabulary_size=IDS, **sizes))


def _transformer(**options):
    return kseq.models.TransformerEncoder(IDS, 4, num_layers=2, num_heads=2, intermediate_dim=5, **options)


def _grid(**options):
    return kseq.models.GridEncoder((3, 4, 2), 5, **options)


def _grid_of_model():
    return _grid(convolutions=keras.Sequential([keras.layers.Conv2D(3, 2), keras.layers.LayerNormalization()]))


ENCODERS = {
    "Encoder": lambda: _recurrent(num_layers=2, residual=True, dropout=0.1),
    "Encoder, one direction": lambda: _recurrent(bidirectional=False),
    "WordEncoder": _words,
    "ConvolutionalEncoder": lambda: _convolutional(num_layers=2, residual=True, dropout=0.1),
    "ConvolutionalEncoder, characters": lambda: _convolutional(characters=_characters(), word_dropout=0.1),
    "PyramidalEncoder": lambda: kseq.models.PyramidalEncoder(IDS, 4, kseq.cells.GRUCell(3), num_layers=3),
    "PyramidalEncoder, one direction": lambda: kseq.models.PyramidalEncoder(
        IDS, 4, kseq.cells.GRUCell(3), bidirectional=False, characters=_characters(), word_dropout=0.1
    ),
    "BackboneEncoder": _backbone,
    "BackboneEncoder, RoBERTa": lambda: _backbone("RobertaBackbone"),
    "TransformerEncoder": lambda: _transformer(dropout=0.1),
    "TransformerEncoder, relative": lambda: _transformer(norm_first=False, positions="relative"),
    "ParallelEncoder": lambda: kseq.models.ParallelEncoder([_convolutional(), _words()]),
    "VectorEncoder": lambda: kseq.models.VectorEncoder(4, 3, dropout=0.3),
    "GridEncoder": lambda: _grid(convolutions=(3,), dropout=0.1),
    "GridEncoder of features": lambda: _grid(convolutions=(), positions=False),
    "GridEncoder, model": _grid_of_model,
}


def batch_of(encoder):
    """Return the inputs of an encoder: 4 rows of at most 6 tokens, one of them empty; in words up to 4 characters.

    Of an encoder of arrays: 4 arrays.
    """
    random = np.random.default_rng(0)
    if isinstance(encoder, kseq.models.ArrayEncoder):
        return (random.normal(size=(4, *encoder.row_shape)).astype("float32"),)
    tokens = random.integers(0, IDS, size=(4, TIME)).astype("int32")
    characters = random.integers(0, IDS, size=(4, TIME, 4)).astype("int32")
    character_lengths = random.integers(0, 5, size=(4, TIME)).astype("int32")
    return (tokens, LENGTHS, *((characters, character_lengths) if encoder.characters is not None else ()))
