"""An exported recognizer of waveforms, with the spectrogram in the graph."""

import numpy as np
import pytest

import kseq
from tests.export.test_saved_model import Session


@pytest.fixture(scope="module")
def model():
    spectrogram = kseq.frontends.LogMelSpectrogram(1000, bands=6, low_hz=30.0, normalize=True)
    front_end = [spectrogram, kseq.frontends.FrameStacking(2)]
    made = kseq.models.CTCRecognizer(1, 4, kseq.layers.GRU(5, return_sequences=True), front_end=front_end)
    made.build()
    random = np.random.default_rng(1)
    made.set_weights([random.normal(size=weight.shape) for weight in made.get_weights()])
    return made


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / "waveforms"
    return kseq.export_saved_model(model, base, strategy=None, buckets=(200,), batch_sizes=(3,), warmup=False)


@pytest.mark.parametrize("signature_name", ["serving_default", "serving_xla"])
def test_a_session_gives_the_models_own_answers(signature_name, model, folder):
    """With NaN in the padding, and another width of the batch."""
    samples = 0.3 * np.random.default_rng(0).normal(size=(3, 140, 1)).astype("float32")
    lengths = np.array([137, 41, 0], "int32")
    samples[np.arange(140) >= lengths[:, None]] = np.nan
    answer = Session(folder, signature_name)(features=samples, lengths=lengths)
    own = model.decode(samples, lengths)
    assert np.all(answer["lengths"][:2] > 0)
    width = own.tokens.shape[2]
    np.testing.assert_array_equal(answer["tokens"][:, :, :width], own.tokens)
    np.testing.assert_array_equal(answer["frames"][:, :, :width], own.frames)
    np.testing.assert_allclose(answer["scores"], own.scores, rtol=1e-4, atol=1e-4)
