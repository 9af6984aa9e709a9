"""An exported classifier: classes, labels or numbers, by Predict, Classify and Regress."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

import kseq
from tests.export.test_keras_models import drawn, session_answer, texts
from tests.export.test_saved_model import Session
from tests.kseq_serving.clients import ServerProcess

pytestmark = pytest.mark.server
NAMES = ["ask", "say", "sing"]
SIZES = {"buckets": (4, 8), "batch_sizes": (2,), "verbose": False}
TEXTS = ["the cat sat", "Dog", "a Cat sat on the DOG", "sat sat"]


@pytest.fixture(scope="module")
def words():
    return kseq.text.WordTokenizer(normalizer=kseq.text.TextNormalizer(case="lower")).adapt(["the cat sat", "the dog"])


@pytest.fixture(scope="module")
def letters():
    return kseq.text.CharacterTokenizer().adapt(["abcdefghijklmnopqrstuvwxyzCDGOT"])


def make(words, outputs=3, letters=None, **options):
    keras.utils.set_random_seed(1)
    cell = kseq.cells.GRUCell(3)
    if letters is None:
        encoder = kseq.models.Encoder(words.vocabulary_size, 4, cell)
    else:
        spelling = kseq.models.CharacterEncoder(letters.vocabulary_size, 3, kseq.cells.GRUCell(2))
        encoder = kseq.models.WordEncoder(words.vocabulary_size, 4, cell, characters=spelling)
    names = None if options.get("task") == "regression" else NAMES[:outputs]
    model = kseq.models.SequenceClassifier(
        encoder, outputs, source_tokenizer=words, character_tokenizer=letters, class_names=names, **options
    )
    model.build()
    return drawn(model)


def example(**features):
    """Return a serialised example; a feature is a list of bytes, ints or floats."""
    kinds = {bytes: "bytes_list", int: "int64_list", float: "float_list"}
    message = tf.train.Example()
    for name, values in features.items():
        getattr(message.features.feature[name], kinds[type(values[0])]).value.extend(values)
    return message.SerializeToString()


def examples(asked):
    return texts([example(text=[text.encode()]) for text in asked])


def method(folder, signature):
    return Session(folder, signature).signature.method_name


def decoded(rows):
    return [[name.decode() for name in row] for row in rows]


def check_own(names, scores, model):
    """Check that names and scores, best first, are the model's own answers to TEXTS."""
    for row, answer in enumerate(model.classify(TEXTS)):
        assert decoded(names)[row] == [name for name, _ in answer]
        np.testing.assert_allclose(scores[row], [score for _, score in answer], rtol=1e-4)


@pytest.mark.parametrize("task", ["classification", pytest.param("multi_label", marks=pytest.mark.server)])
def test_classes_by_predict_and_classify(task, words, tmp_path):
    model = make(words, task=task, pooling="attention")
    folder = kseq.export_saved_model(model, tmp_path / "m", **SIZES)
    for name in ("serving_default", "serving_xla"):
        answer = session_answer(folder, name, text=texts([*TEXTS, ""]))
        check_own(answer["classes"], answer["probabilities"], model)
        assert answer["error"].tolist()[:4] == [b""] * 4
        assert answer["error"][4] == b"The row has 0 steps in tokens, but this model needs at least 1."
        assert decoded(answer["classes"])[4] == [""] * 3
    assert method(folder, "serving_classify") == "tensorflow/serving/classify"
    bad = [example(text=[b"a", b"dog"]), example(other=[1.5]), example(text=[b""])]
    answer = session_answer(folder, "serving_classify", inputs=texts([*examples(TEXTS), *bad]))
    check_own(answer["classes"], answer["scores"], model)
    assert decoded(answer["classes"])[4:] == [[""] * 3] * 3
    assert np.isnan(answer["scores"][4:]).all()


@pytest.mark.long
def test_words_and_their_characters_to_classes(words, letters, tmp_path):
    model = make(words, letters=letters)
    folder = kseq.export_saved_model(model, tmp_path / "m", warmup=False, **SIZES)
    answer = session_answer(folder, "serving_classify", inputs=examples(TEXTS))
    check_own(answer["classes"], answer["scores"], model)


def test_a_number_by_predict_and_regress(words, tmp_path):
    model = make(words, 1, task="regression", pooling="mean")
    folder = kseq.export_saved_model(model, tmp_path / "m", warmup=False, **SIZES)
    own = model.regress(TEXTS)
    np.testing.assert_allclose(session_answer(folder, text=texts(TEXTS))["values"], own, rtol=1e-4)
    assert method(folder, "serving_regress") == "tensorflow/serving/regress"
    asked = texts([*examples(TEXTS), example(other=[1])])
    answer = session_answer(folder, "serving_regress", inputs=asked)["outputs"]
    np.testing.assert_allclose(answer[:4], own[:, 0], rtol=1e-4)
    assert np.isnan(answer[4])
    two = kseq.export_saved_model(make(words, 2, task="regression"), tmp_path / "n", warmup=False, **SIZES)
    assert "serving_regress" not in tf.saved_model.load(os.fspath(two)).signatures


@pytest.mark.long
def test_examples_of_tokens_and_of_frames_with_options(words, tmp_path):
    """Sequences come as flat features, without lengths; ids beyond int32 stay outside the vocabulary."""
    model = make(words)
    model.source_tokenizer = None
    model.class_names = None
    folder = kseq.export_saved_model(model, tmp_path / "m", warmup=False, **SIZES)
    asked = texts([example(tokens=[4, 5, 6]), example(tokens=[2**32 + 4]), example(tokens=[5])])
    answer = session_answer(folder, "serving_classify", inputs=asked)
    rows = {"source": np.array([[4, 5, 6], [5, 0, 0]]), "source_lengths": np.array([3, 1])}
    best = np.argsort(-model.predict(rows, verbose=0), axis=-1)
    assert decoded(answer["classes"][[0, 2]]) == [[str(number) for number in row] for row in best]
    assert decoded(answer["classes"][1:2]) == [[""] * 3]

    inputs = {"frames": keras.Input((None, 2), name="frames"), "speed": keras.Input((1,), name="speed")}
    mean = keras.layers.GlobalAveragePooling1D()(keras.layers.Masking(9.0)(inputs["frames"]))
    features = keras.layers.Concatenate()([mean, inputs["speed"]])
    frames = drawn(keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(features)))
    presets = {"frames": "features", "speed": kseq.models.RowInputs(dtype="float32", shape=(1,), default=1)}
    folder = kseq.export_saved_model(frames, tmp_path / "f", inputs=presets, answers="classes", warmup=False, **SIZES)
    assert "serving_classify" not in kseq.load_saved_model(folder)._loaded.signatures  # `speed` has an axis of its own
    plain = keras.Sequential([keras.Input((None, 2)), kseq.layers.GRU(3), keras.layers.Dense(2, activation="softmax")])
    folder = kseq.export_saved_model(
        drawn(plain), tmp_path / "p", inputs="features", answers="classes", warmup=False, **SIZES
    )
    asked = texts(
        [example(features=[0.5, 1.0, -1.0, 2.0]), example(features=[0.5, 1.0, 3.0]), example(features=[1.0, 2.0])]
    )
    scores = session_answer(folder, "serving_classify", inputs=asked)["scores"]
    for row, given in ((0, [[0.5, 1.0], [-1.0, 2.0]]), (2, [[1.0, 2.0]])):
        np.testing.assert_allclose(scores[row], -np.sort(-np.asarray(plain(np.array([given])))[0]), rtol=1e-4)
    assert np.isnan(scores[1]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": kseq.decoding.GreedySearch()}, "a SequenceClassifier has no use for it"),
        ({"class_names": ["a"]}, r"class_names has 1 names, \('a',\), but the model has 3 classes"),
        ({"answers": "classes"}, "a SequenceClassifier defines its answer itself"),
    ],
)
def test_options_that_do_not_apply_are_refused(options, message, words, tmp_path):
    with pytest.raises((TypeError, ValueError), match=message):
        kseq.export_saved_model(make(words), tmp_path / "m", **options)


def test_a_server_answers_classify_and_regress_like_python(words, tmp_path):
    from kseq_serving import KseqClient

    classifier, regressor = make(words), make(words, 1, task="regression")
    kseq.export_saved_model(classifier, tmp_path / "names", **SIZES)
    kseq.export_saved_model(regressor, tmp_path / "numbers", **SIZES)
    config = tmp_path / "models.config"
    models = "".join(
        f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow" }} '
        for name in ("names", "numbers")
    )
    config.write_text(f"model_config_list {{ {models} }}")
    server = ServerProcess(tmp_path / "log", f"--model_config_file={config}")
    asked = [{"text": text} for text in TEXTS]
    try:
        server.wait_ready()
        for address in (f"http://127.0.0.1:{server.rest_port}", f"grpc://127.0.0.1:{server.port}"):
            with KseqClient(address) as client:
                rows = client.classify("names", asked, signature_name="serving_classify")
                for row, own, predicted in zip(
                    rows, classifier.classify(TEXTS), client.predict("names", {"text": TEXTS})["classes"], strict=True
                ):
                    assert [name for name, _ in row] == [name for name, _ in own] == list(predicted)
                    np.testing.assert_allclose([score for _, score in row], [score for _, score in own], rtol=1e-4)
                values = client.regress("numbers", asked, signature_name="serving_regress")
                np.testing.assert_allclose(values, regressor.regress(TEXTS)[:, 0], rtol=1e-4)
                with_bad = client.classify("names", [*asked, {"txt": "a"}], signature_name="serving_classify")
                assert with_bad[:4] == rows
                assert [name for name, _ in with_bad[4]] == ["", "", ""]
        status, body = server.rest(
            "POST", "/v1/models/names:classify", {"signature_name": "serving_classify", "examples": asked[:1]}
        )
        assert (status, body["results"][0][0][0]) == (200, classifier.classify(TEXTS[0])[0][0])
    finally:
        assert server.stop() == 0
