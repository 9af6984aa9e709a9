"""Small models with each kind of decoder."""

import numpy as np
import pytest

import kseq
from tests.support import BACKEND

SOURCES, TARGETS = 30, 20
KINDS = {
    "attention": {},
    "luong": {"attention": kseq.attention.DotProductAttention, "input_feeding": True},
    "input feeding": {"input_feeding": True},
    "every step": {"context": "every_step"},
    "initial": {"context": "initial"},
}
if BACKEND == "jax":  # the two modes of the decoder: layer by layer, step by step
    KINDS = {kind: KINDS[kind] for kind in ("attention", "input feeding")}


def make_model(kind="attention", cell=kseq.cells.GRUCell, num_layers=2, dropout=0.0, units=5, **options):
    decoder_options = dict(KINDS[kind])
    if "attention" in decoder_options:
        decoder_options["attention"] = kseq.attention.DotProductAttention(general=True)
    model = kseq.models.Seq2Seq(
        kseq.models.Encoder(
            SOURCES, 8, cell(units + 1), num_layers=num_layers, residual=True, dropout=dropout, **options
        ),
        kseq.models.Decoder(
            TARGETS, 7, cell(units), num_layers=num_layers, residual=True, dropout=dropout, **decoder_options
        ),
    )
    model.build()
    return model


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    target = random.integers(4, TARGETS, size=(5, 7)).astype("int32")
    target_lengths = np.array([7, 3, 5, 2, 6], "int32")
    target[:, 0], target[np.arange(5), target_lengths - 1] = 2, 3
    return {
        "source": random.integers(0, SOURCES, size=(5, 9)).astype("int32"),
        "source_lengths": np.array([9, 4, 1, 0, 7], "int32"),
        "target": target,
        "target_lengths": target_lengths,
    }
