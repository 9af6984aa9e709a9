"""Fixtures: the files of serving/deploy, and an exported model that they can serve."""

import pathlib
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

import kseq

DEPLOY = pathlib.Path(__file__).parents[2] / "serving" / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
NAME = "dates"  # name of the model in these files


def read_yaml(path: pathlib.Path) -> Any:
    (document,) = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    return document


class Exported(NamedTuple):
    base: pathlib.Path
    model: kseq.models.CTCRecognizer


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Exported model that reads frames, so that its inputs have lengths."""
    encoder = kseq.layers.RNN(kseq.cells.GRUCell(4), return_sequences=True)
    model = kseq.models.CTCRecognizer(3, 5, encoder, front_end=kseq.frontends.FrameStacking(2))
    model.build()
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=weight.shape) for weight in model.get_weights()])
    base = tmp_path_factory.mktemp("models") / NAME
    kseq.export_saved_model(model, base, strategy=None, buckets=(6, 12), batch_sizes=(1, 4))
    return Exported(base, model)
