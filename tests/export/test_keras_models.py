"""Keras models that define no `serving`, exported by presets for what they read and answer."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kseq
from kseq.export.keras_model import KerasModel
from kseq.export.model_checks import check_model
from tests.export.test_saved_model import Session

pytestmark = pytest.mark.server  # each test exports a model

NAMES = ["bad", "fair", "good"]
SIZES = {"buckets": (4, 8), "batch_sizes": (2,), "verbose": False}


def drawn(model):
    """Return the model with weights large enough for answers to differ."""
    random = np.random.default_rng(5)
    model.set_weights([random.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def export(model, path, **options):
    """Export a model, check that its warm-up requests are answered, and return the version's folder."""
    from tensorflow_serving.apis import prediction_log_pb2

    folder = kseq.export_saved_model(model, path / "m", **{**SIZES, **options})
    served = kseq.load_saved_model(folder)
    for record in tf.data.TFRecordDataset(os.fspath(folder / "assets.extra" / "tf_serving_warmup_requests")):
        inputs = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request.inputs
        answer = served(**{name: tf.make_ndarray(value) for name, value in inputs.items()})
        assert answer["error"].tolist() == ["", ""]
    return folder


def session_answer(folder, signature_name="serving_default", **inputs):
    return Session(folder, signature_name)(**inputs)


def texts(values):
    return np.array(values, object)


def test_texts_to_classes(tokenizer, tmp_path):
    model = drawn(
        keras.Sequential(
            [
                keras.Input((None,), dtype="int32"),
                layers.Embedding(tokenizer.vocabulary_size, 4, mask_zero=True),
                kseq.layers.GRU(5),
                layers.Dense(3, activation="softmax"),
            ]
        )
    )
    folder = export(model, tmp_path, source=tokenizer, inputs="text", answers="classes", class_names=NAMES)
    assert (folder / "assets" / "class_names.txt").read_text() == "bad\nfair\ngood\n"
    assert "pad_variable_length_inputs: false" in (folder.parent / "batching.config").read_text()
    asked = ["abc", "b", "cab ab"]
    for name in ("serving_default", "serving_xla"):
        answer = session_answer(folder, name, text=texts(asked))
        assert set(answer) == {"classes", "probabilities", "error"}
        for text, classes, probabilities in zip(asked, answer["classes"], answer["probabilities"], strict=True):
            own = np.asarray(model(tokenizer([text])[0]))[0]
            order = np.argsort(-own)
            assert [name.decode() for name in classes] == [NAMES[index] for index in order]
            np.testing.assert_allclose(probabilities, own[order], rtol=1e-4)


@pytest.mark.long
def test_features_to_tags_of_a_crf(tmp_path):
    crf = kseq.layers.CRF(3, names=["O", "B-X", "I-X"], scheme="BIO")
    features = keras.Input((None, 2))
    model = drawn(keras.Model(features, crf(layers.Masking()(features))))
    folder = export(model, tmp_path, inputs="features", answers="tags")
    asked, lengths = np.random.default_rng(1).normal(size=(3, 4, 2)).astype("float32"), np.array([4, 2, 3], "int32")
    asked[2, 1] = np.nan
    for name in ("serving_default", "serving_xla"):
        answer = session_answer(folder, name, features=asked, lengths=lengths)
        mask = np.arange(4) < lengths[:2, None]
        scores = model(asked[:2])
        expected = np.asarray(crf.decode(scores, mask))
        np.testing.assert_array_equal(answer["tags"][:2], expected)
        assert not np.array_equal(expected[mask], np.argmax(scores, axis=-1)[mask])
        marginals = np.asarray(crf.marginals(scores, mask))
        best = np.take_along_axis(marginals, np.maximum(expected, 0)[:, :, None], 2)[:, :, 0]
        np.testing.assert_allclose(answer["scores"][:2], best, rtol=1e-4, atol=1e-6)
        assert answer["error"][2] != b""
        assert np.isnan(answer["scores"][2]).all()


def test_features_to_tags_with_a_bad_row(tmp_path):
    model = drawn(
        keras.Sequential(
            [
                keras.Input((None, 2)),
                kseq.layers.Bidirectional(kseq.layers.LSTM(3, return_sequences=True)),
                layers.Dense(3),
            ]
        )
    )
    folder = export(model, tmp_path, inputs="features", answers="tags", class_names=NAMES)
    features, lengths = np.random.default_rng(0).normal(size=(3, 7, 2)).astype("float32"), np.array([7, 3, 2], "int32")
    features[np.arange(7) >= lengths[:, None]] = np.nan  # in the padding
    features[2, 1] = np.inf
    answer = session_answer(folder, features=features, lengths=lengths)
    assert [bool(reason) for reason in answer["error"]] == [False, False, True]
    for row, length in enumerate([7, 3]):
        own = keras.ops.softmax(model(features[row : row + 1, :length]))[0]
        tags = [NAMES[index] for index in np.argmax(own, axis=-1)]
        assert [tag.decode() for tag in answer["tags"][row]] == tags + [""] * (8 - length)
        np.testing.assert_allclose(answer["scores"][row, :length], np.max(own, axis=-1), rtol=1e-4)
        assert not answer["scores"][row, length:].any()
    assert answer["tags"][2].tolist() == [b""] * 8
    assert np.isnan(answer["scores"][2]).all()


def reader(width, *, steps=None):
    """Return a model of images 8 high, with two columns per frame; the height first, as in Keras."""
    image = keras.Input((8, width, 1))
    values = layers.MaxPooling2D(2)(layers.Conv2D(3, (1, 1), activation="tanh")(image))
    values = layers.Permute((2, 1, 3))(values)
    values = layers.Reshape((steps or -1, 12))(values)
    return drawn(keras.Model(image, layers.Dense(4)(values)))


def png(height, width, seed=0, **kind):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype("uint8")
    return (tf.io.encode_jpeg if kind else tf.io.encode_png)(pixels).numpy()


def decoded(file, width=None):
    image = tf.image.convert_image_dtype(tf.io.decode_image(file, channels=1), tf.float32)
    return tf.image.resize(image, [8, width or round(image.shape[1] * 8 / image.shape[0])])[None]


@pytest.mark.long
def test_images_of_any_width_to_labels(tmp_path):
    model = reader(None)
    strategy = kseq.decoding.CTCBeamSearch(beam_width=3, blank_index=3)
    answers = kseq.export.Ctc(blank_index=-1)
    options = {"inputs": "png", "answers": answers, "strategy": strategy, "class_names": ["a", "b", "cd", "-"]}
    folder = export(model, tmp_path, **options)
    assert (folder.parent / "batching.config").exists()
    files = [png(16, 16), png(4, 2, seed=1), png(8, 6, seed=2, jpeg=True)]
    changed = bytearray(files[0])
    changed[60] ^= 255
    damaged = [bytes(changed), files[0][:60], files[0][:8], files[2][:40]]
    answer = session_answer(folder, image_bytes=texts([*files, b"GIF89a", b"", *damaged]))
    for row, file in enumerate(files):
        logits = model(decoded(file))
        own = strategy(logits, np.array([logits.shape[1]], "int32"))
        count = int(own.lengths[0, 0])
        assert answer["lengths"][row, 0] == count
        np.testing.assert_array_equal(answer["tokens"][row, 0, :count], own.tokens[0, 0, :count])
        np.testing.assert_allclose(answer["scores"][row], own.scores[0], rtol=1e-4)
        assert answer["text"][row, 0].decode() == "".join(["a", "b", "cd"][token] for token in own.tokens[0, 0, :count])
    assert any(answer["text"][:, 0])
    for row in (3, 4):
        assert answer["error"][row].startswith(b"image_bytes is neither a PNG nor a JPEG file.")
        assert np.all(answer["tokens"][row] == -1)
    assert set(answer["error"][5:]) == {b"image_bytes is a damaged file, which cannot be decoded."}
    assert np.all(answer["tokens"][5:] == -1)


def test_images_of_a_fixed_size_to_vectors(tmp_path):
    model = reader(6, steps=3)
    folder = export(model, tmp_path, inputs="pixels", answers="vectors", serving_config=False)
    pixels = np.random.default_rng(0).uniform(size=(2, 8, 6, 1)).astype("float32")
    np.testing.assert_allclose(session_answer(folder, pixels=pixels)["vectors"], model(pixels), rtol=1e-4, atol=1e-5)
    files = export(model, tmp_path / "files", inputs="png", answers="sequence")
    answer = session_answer(files, image_bytes=texts([png(5, 9)[:50], png(5, 9)]))
    np.testing.assert_allclose(answer["sequence"][1:], model(decoded(png(5, 9), width=6)), rtol=1e-4, atol=1e-5)
    assert answer["error"].tolist() == [b"image_bytes is a damaged file, which cannot be decoded.", b""]
    assert answer["lengths"].tolist() == [0, 3]


class Loudness(keras.Model):
    """A subclassed model of samples, which gives the probability of one of two classes."""

    def __init__(self):
        super().__init__()
        self.reader = kseq.layers.GRU(3)
        self.output_layer = layers.Dense(1, activation="sigmoid")

    def call(self, samples, mask=None):
        return self.output_layer(self.reader(samples, mask=mask))


def wav(samples, channels=1, rate=8000):
    return tf.audio.encode_wav(np.tile(samples[:, None], (1, channels)), rate).numpy()


def test_waveforms_to_classes(tmp_path):
    model = Loudness()
    model(np.zeros((1, 2, 1), "float32"))
    drawn(model)
    inputs = kseq.export.Wav(sample_rate=8000)
    folder = export(model, tmp_path, inputs=inputs, answers="classes", class_names=["quiet", "loud"])
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, 7).astype("float32")
    float_wav = bytearray(wav(samples))
    float_wav[20] = 3  # the format of floats
    asked = [
        wav(samples),
        wav(samples[:3]),
        wav(samples, channels=2),
        wav(samples, rate=9000),
        bytes(float_wav),
        b"RIFF",
        wav(samples)[:50],
        wav(samples)[:40],
    ]
    answer = session_answer(folder, wav_bytes=texts(asked))
    for row, count in enumerate([7, 3]):
        loud = float(model(tf.audio.decode_wav(wav(samples[:count])).audio[None])[0, 0])
        assert answer["classes"][row].tolist() == ([b"loud", b"quiet"] if loud > 0.5 else [b"quiet", b"loud"])
        np.testing.assert_allclose(answer["probabilities"][row], [max(loud, 1 - loud), min(loud, 1 - loud)], rtol=1e-3)
    assert [reason.decode() for reason in answer["error"]] == [
        "",
        "",
        "wav_bytes has 2 channels, but must have 1. Mix them.",
        "wav_bytes has 9000 samples per second, but must have 8000. Resample it.",
        "wav_bytes is not PCM with 16 bits per sample. Convert it.",
        'wav_bytes is not a WAV file. Over REST, send {"b64": "..."}, the file in base64.',
        "wav_bytes is a damaged file, which cannot be decoded.",
        "wav_bytes is a damaged file, which cannot be decoded.",
    ]


def test_a_model_with_an_input_for_lengths(tmp_path):
    tokens, lengths = keras.Input((None,), dtype="int32", name="ids"), keras.Input((), dtype="int32", name="lengths")
    counted = layers.Lambda(lambda two: two[0] + two[1][:, None, None])
    values = counted([layers.Embedding(9, 2)(tokens), keras.ops.cast(lengths, "float32")])
    model = drawn(keras.Model({"ids": tokens, "lengths": lengths}, values))
    folder = export(model, tmp_path, inputs="tokens", answers="sequence")
    ids, count = np.array([[4, 5, 8, 9], [1, 2, 9, 9]], "int32"), np.array([3, 2], "int32")
    answer = session_answer(folder, tokens=ids, lengths=count)
    own = np.asarray(model({"ids": np.minimum(ids, 8), "lengths": count}))
    real = np.arange(4) < count[:, None]
    np.testing.assert_allclose(answer["sequence"], np.where(real[..., None], own, 0), rtol=1e-6)
    assert answer["lengths"].tolist() == [3, 2]
    # The vocabulary's size is that of the embedding.
    refused = session_answer(folder, tokens=ids, lengths=np.array([4, 2], "int32"))["error"]
    assert refused.tolist() == [b"tokens[3] is 9, but the ids of the model's vocabulary are 0 to 8.", b""]


def test_a_fixed_number_of_steps_is_the_only_bucket(tmp_path):
    model = drawn(keras.Sequential([keras.Input((5, 2)), layers.Flatten(), layers.Dense(3)]))
    folder = export(model, tmp_path, inputs="features", answers="vectors")
    features = np.ones([1, 3, 2], "float32")
    answer = session_answer(folder, features=features, lengths=np.array([2], "int32"))
    np.testing.assert_allclose(answer["vectors"], model(np.pad(features[:, :2], [(0, 0), (0, 3), (0, 0)])), rtol=1e-5)


def test_padding_that_changes_answers_is_told(tmp_path):
    model = keras.Sequential([keras.Input((None,)), layers.Embedding(9, 4), layers.GRU(3)])
    with pytest.warns(
        UserWarning, match=r"Padding changes the answers of this Sequential.*Embedding without mask_zero"
    ):
        kseq.export_saved_model(drawn(model), tmp_path / "m", inputs="tokens", answers="vectors", warmup=False, **SIZES)


SPECS = [{"features": tf.TensorSpec([None, None, 2]), "lengths": tf.TensorSpec([None], tf.int32)}]


class EverySecond(layers.Layer):
    """Drops steps, but passes the mask of all steps on."""

    supports_masking = True

    def call(self, values):
        return values[:, ::2]


def test_several_outputs_in_half_precision(tmp_path):
    values = keras.Input((None, 2))
    both = [layers.GlobalAveragePooling1D()(values), layers.Dense(3, dtype="mixed_bfloat16")(values)]
    model = drawn(keras.Model(values, both))
    folder = export(model, tmp_path, inputs="features", answers="vectors")
    answer = session_answer(folder, features=np.ones([1, 4, 2], "float32"), lengths=np.array([4], "int32"))
    own = model(np.ones([1, 4, 2], "float32"))
    assert answer["vectors_1"].dtype == "float32"
    for name, value in zip(("vectors_0", "vectors_1"), own, strict=True):
        np.testing.assert_allclose(answer[name], np.asarray(value, "float32"), rtol=1e-2)


def test_frames_that_a_layer_drops():
    """The lengths are the same share of the frames; the layer's wrong mask is not used."""
    model = drawn(keras.Sequential([keras.Input((None, 2)), EverySecond(), kseq.layers.GRU(3, return_sequences=True)]))
    called = KerasModel(model, kseq.export.Features())
    assert check_model(called, (8,)) == (None, 4, 3)
    assert not called.takes_mask
    model = keras.Sequential([keras.Input((None, 2)), EverySecond()])  # whose output has the wrong mask
    called = KerasModel(model, kseq.export.Features())
    check_model(called, (8,))
    mask_in_graph = tf.function(lambda row: called(row).mask, input_signature=SPECS)
    row = {"features": tf.ones([2, 6, 2]), "lengths": tf.constant([6, 3])}
    assert np.asarray(mask_in_graph(row)).tolist() == [
        [True, True, True],
        [True, True, False],
    ]


def test_a_model_that_answers_otherwise_in_a_graph_is_refused(tmp_path):
    """The number of steps of TimeDistributed(Flatten()) is that of the rows if neither is known, in Keras 3.15."""
    model = keras.Sequential([keras.Input((None, 2, 2)), layers.TimeDistributed(layers.Flatten())])
    with pytest.raises(ValueError, match=r"answers otherwise in an exported graph.*TimeDistributed"):
        kseq.export_saved_model(model, tmp_path / "m", inputs="features", answers="sequence")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answers": "tags"}, r"Sequential cannot be exported as it is. .* inputs=, one of \['text', 'tokens'"),
        ({"inputs": "tokens"}, r"answers=, one of \['ctc', 'tags', 'classes', 'vectors', 'sequence'\]"),
        ({"inputs": "words", "answers": "tags"}, r"inputs='words', but the presets are \['text', 'tokens'"),
        ({"inputs": "text", "answers": "tags"}, "inputs='text' needs source="),
        ({"inputs": "png", "answers": "tags"}, r"inputs \(batch, height, width, channels\), but .* \(None, None\)"),
        ({"inputs": "tokens", "answers": "classes"}, r"one output \(batch, classes\), but .* \(None, .*, 3\)"),
        ({"inputs": "tokens", "answers": "tags", "class_names": ["x"]}, "class_names has 1 names, but the model has 3"),
        ({"inputs": "tokens", "answers": "tags", "max_length": 3}, "max_length=3: a Sequential has no use for it"),
        ({"inputs": "tokens", "answers": "ctc", "strategy": kseq.decoding.BeamSearch()}, "writes token by token"),
        ({"inputs": "tokens", "answers": "ctc", "strategy": "bean"}, "bean"),
        ({"inputs": "tokens", "answers": "sequence", "class_names": ["x"]}, "class_names=.* has no use for it"),
        ({"inputs": "tokens", "answers": "tags", "class_names": "xyz"}, "must be a list of texts"),
        ({"inputs": "tokens", "answers": "tags", "class_names": ["x", "x", "y"]}, r"class_names\[1\] is 'x'.*another"),
        ({"inputs": "tokens", "answers": "tags", "class_names": ["x", "", "y"]}, r"class_names\[1\] is ''.*not empty"),
        ({"inputs": "tokens", "answers": "tags", "class_names": ["x", 1, "y"]}, "must be a list of texts"),
        ({"inputs": "tokens", "answers": "tags", "class_names": {"x", "y", "z"}}, "in the order of the ids"),
        ({"inputs": "tokens", "answers": "tags", "class_names": 3}, "class_names=3, but it must be a list of texts"),
        ({"inputs": "tokens", "answers": "tags", "class_names": []}, "class_names is empty"),
        ({"inputs": "tokens", "answers": kseq.export.Ctc(blank_index=4)}, "blank_index=4, but the model has 3 classes"),
    ],
)
def test_presets_that_do_not_fit_are_refused(options, message, tmp_path):
    model = keras.Sequential([keras.Input((None,)), layers.Embedding(9, 3, mask_zero=True)])
    with pytest.raises((TypeError, ValueError), match=message):
        kseq.export_saved_model(model, tmp_path / "m", **options)
    assert not (tmp_path / "m").exists()


def test_a_ctc_decoder_may_be_given_by_its_name(tmp_path):
    model = keras.Sequential([keras.Input((None,)), layers.Embedding(9, 3, mask_zero=True)])
    options: dict = {"inputs": "tokens", "answers": "ctc", "buckets": (4,)}
    kseq.export_saved_model(model, tmp_path / "m", strategy="beam", **options)
    answer = kseq.load_saved_model(tmp_path / "m")(tokens=np.array([[1, 2, 3]]))
    assert answer["tokens"].shape[:2] == (1, 1)


def test_other_channels_than_the_models_are_refused(tmp_path):
    for model in (reader(None), reader(6, steps=3)):
        with pytest.raises(ValueError, match="inputs='png' has channels=3, but the model's images have 1"):
            kseq.export_saved_model(model, tmp_path / "m", inputs=kseq.export.Png(channels=3), answers="vectors")


def test_an_output_per_row_is_no_sequence(tmp_path):
    model = keras.Sequential([keras.Input((None, 2)), kseq.layers.GRU(3)])
    with pytest.raises(ValueError, match=r"has shape \(None, 3\). Use answers='vectors'"):
        kseq.export_saved_model(model, tmp_path / "m", inputs="features", answers="sequence")


def test_a_model_with_an_answer_of_its_own_takes_no_preset_for_it(model, tmp_path):
    with pytest.raises(TypeError, match="a Seq2Seq defines its answer itself"):
        kseq.export_saved_model(model, tmp_path / "m", answers="tags")


def test_keras_exports_models_with_our_layers_itself(tmp_path):
    model = drawn(
        keras.Sequential([keras.Input((None, 2)), kseq.layers.Bidirectional(kseq.layers.GRU(3)), layers.Dense(2)])
    )
    model.export(tmp_path / "m", verbose=False)
    served = Session(tmp_path / "m", "serving_default")
    (name,) = served.signature.inputs
    features = np.ones([2, 4, 2], "float32")
    (output,) = served(**{name: features}).values()
    np.testing.assert_allclose(output, model(features), rtol=1e-5)


def test_checks_of_several_models_are_not_told_as_retracing(caplog, monkeypatch):
    monkeypatch.setattr(tf.get_logger(), "propagate", True)
    for _ in range(6):
        called = KerasModel(keras.Sequential([keras.Input((None, 2)), layers.Dense(1)]), kseq.export.Features())
        check_model(called, (4,))
    assert "retracing" not in caplog.text
