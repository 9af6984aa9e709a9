"""An exported recognizer of waveforms, with the spectrogram in the graph."""

import numpy as np
import pytest
import tensorflow as tf

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


@pytest.mark.long
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


@pytest.mark.long
def test_wav_files_are_answered_as_their_samples(model, folder, tmp_path):
    files = kseq.export_saved_model(
        model, tmp_path / "m", inputs="wav", buckets=(200,), batch_sizes=(3,), warmup=False, verbose=False
    )
    samples = (0.3 * np.random.default_rng(2).normal(size=(140, 1))).astype("float32")
    file = tf.audio.encode_wav(np.clip(samples, -1, 1), 1000).numpy()
    served, other = Session(files, "serving_default"), tf.audio.encode_wav(samples, 2000).numpy()
    refused = served(wav_bytes=np.array([other], object))["error"]
    assert refused.tolist() == [b"wav_bytes has 2000 samples per second, but must have 1000. Resample it."]
    answer = served(wav_bytes=np.array([file], object))
    own = Session(folder, "serving_default")(features=tf.audio.decode_wav(file).audio[None].numpy(), lengths=[140])
    assert np.all(answer["lengths"] > 0)
    for name, expected in own.items():
        np.testing.assert_array_equal(answer[name], expected, err_msg=name)


@pytest.mark.long
def test_columns_of_an_image_are_a_recognizers_frames(tmp_path):
    model = kseq.models.CTCRecognizer(6, 4, kseq.layers.GRU(5, return_sequences=True))
    model.build()
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=weight.shape) for weight in model.get_weights()])
    folder = kseq.export_saved_model(
        model, tmp_path / "m", inputs="png", class_names=[*"-abc"], buckets=(8,), batch_sizes=(1,), verbose=False
    )
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 1)).astype("uint8")
    answer = Session(folder, "serving_default")(image_bytes=np.array([tf.io.encode_png(pixels).numpy()], object))
    own = model.decode((pixels[:, :, 0].T / 255.0)[None].astype("float32"), np.array([5]))
    np.testing.assert_array_equal(answer["tokens"][:, :, :5], own.tokens)
    np.testing.assert_allclose(answer["scores"], own.scores, rtol=1e-4)
    assert answer["text"][0, 0].decode() == "".join("-abc"[token] for token in own.tokens[0, 0] if token > 0) != ""
    tall = kseq.models.CTCRecognizer(7, 4, kseq.layers.GRU(5, return_sequences=True))
    with pytest.raises(ValueError, match="needs a model whose frames have one value for each of 3 channels"):
        kseq.export_saved_model(tall, tmp_path / "n", inputs=kseq.export.Png(channels=3))
