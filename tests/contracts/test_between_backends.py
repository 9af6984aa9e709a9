"""Models that JAX trains and saves are the same models under TensorFlow, which exports them."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import kseq
from tests.contracts.jax_models import DECODED, MODELS, decoded_inputs, file_of
from tests.contracts.models import batch_of

pytestmark = pytest.mark.long
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def of_jax(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of the models that a process on JAX has trained for a step, and saved."""
    folder = tmp_path_factory.mktemp("of_jax")
    program = [sys.executable, "-m", "tests.contracts.jax_models", str(folder)]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    ended = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_jax_answers_the_same(name: str, of_jax: pathlib.Path):
    file = file_of(of_jax, name)
    model = keras.saving.load_model(file)
    assert model.optimizer.iterations == 1
    answers = np.load(file.with_suffix(".npz"))
    np.testing.assert_allclose(np.asarray(model(batch_of(model, name))), answers["outputs"], atol=1e-5)


@pytest.mark.parametrize("name", DECODED)
def test_a_model_of_jax_is_exported(name: str, of_jax: pathlib.Path, tmp_path: pathlib.Path):
    file, (inputs, options) = file_of(of_jax, name), DECODED[name]
    model, values = keras.saving.load_model(file), decoded_inputs(batch_of(MODELS[name](), name), name)
    sizes: dict = {"buckets": (8,), "batch_sizes": (4,), "warmup": False, "verbose": False, **options}
    served = kseq.load_saved_model(kseq.export_saved_model(model, tmp_path / "model", **sizes))
    got = served(**dict(zip(inputs.values(), values, strict=True)))["tokens"]
    expected = np.load(file.with_suffix(".npz"))["tokens"]
    for row, length in enumerate(values[1] if name == "LanguageModel" else [0] * len(got)):
        written = expected[row, 0, length:][: got.shape[-1]]  # a served text is without its prompt
        assert np.array_equal(got[row, 0, : len(written)], written)
    assert (got[:, 0, 0] > 0).any()
