"""Functional models with several inputs, exported with a preset for each."""

import keras
import numpy as np
import pytest
from keras import layers

import kseq
from tests.export.test_keras_models import NAMES, drawn, export, session_answer, texts


def forecaster():
    """Return a model of the past, of the known future, and of the size of a shop."""
    past, future = keras.Input((None, 2), name="past"), keras.Input((None, 1), name="future")
    size = keras.Input((2,), name="size")
    _, state = kseq.layers.GRU(3, return_state=True)(past)
    steps = kseq.layers.GRU(3, return_sequences=True)(future, initial_state=state + layers.Dense(3)(size))
    return drawn(keras.Model([past, future, size], layers.Dense(1)(steps)))


@pytest.mark.server
def test_several_inputs(tmp_path):
    """Each sequence has its own lengths, and the output those of the sequence whose mask it has."""
    model, random = forecaster(), np.random.default_rng(0)
    inputs = {"past": "features", "future": "features", "size": kseq.models.RowInputs(dtype="float32", shape=(2,))}
    folder = export(model, tmp_path, inputs=inputs, answers="sequence")
    asked = {
        "past": random.normal(size=(3, 7, 2)).astype("float32"),
        "past_lengths": np.array([3, 7, 7], "int32"),
        "future": random.normal(size=(3, 4, 1)).astype("float32"),
        "future_lengths": np.array([4, 2, 4], "int32"),
        "size": random.normal(size=(3, 2)).astype("float32"),
    }
    asked["past"][0, 3:] = asked["future"][1, 2:] = np.nan  # in the padding
    asked["future"][2, 1] = np.inf
    for name in ("serving_default", "serving_xla"):
        answer = session_answer(folder, name, **asked)
        assert answer["lengths"].tolist() == [4, 2, 0]
        assert answer["error"].tolist()[:2] == [b"", b""]
        assert answer["error"][2].startswith(b"future[1, 0] is inf")
        for row, (of_past, of_future) in enumerate([(3, 4), (7, 2)]):
            one = [asked["past"][row : row + 1, :of_past], asked["future"][row : row + 1, :of_future]]
            own = model([*one, asked["size"][row : row + 1]])[0]
            np.testing.assert_allclose(answer["sequence"][row, :of_future], own, rtol=1e-4, atol=1e-5)
            assert not answer["sequence"][row, of_future:].any()


@pytest.mark.long
def test_attention_rnn_over_a_memory(tmp_path):
    """By kseq's export, and by Keras's, which traces the call alone."""
    frames, source = keras.Input((None, 2), name="frames"), keras.Input((None, 3), name="source")
    mechanisms = [kseq.attention.LocationSensitiveAttention(3, 2, 3), kseq.attention.MultiHeadAttention(2, 2)]
    layer = kseq.layers.AttentionRNN(kseq.cells.GRUCell(3), mechanisms, attention_layer_size=4, return_sequences=True)
    model, random = drawn(keras.Model([frames, source], layer(frames, source))), np.random.default_rng(0)
    given = {"frames": random.normal(size=(3, 5, 2)), "source": random.normal(size=(3, 4, 3))}
    given = {name: values.astype("float32") for name, values in given.items()}
    expected = np.asarray(model([given["frames"], given["source"]]))
    model.export(tmp_path / "of_keras", verbose=False)
    answer = session_answer(tmp_path / "of_keras", **given)
    np.testing.assert_allclose(next(iter(answer.values())), expected, rtol=1e-4, atol=1e-5)
    folder = export(model, tmp_path, inputs={"frames": "features", "source": "features"}, answers="sequence")
    lengths = {"frames_lengths": np.array([5, 2, 3], "int32"), "source_lengths": np.array([1, 4, 2], "int32")}
    for signature in ("serving_default", "serving_xla"):
        answer = session_answer(folder, signature, **given, **lengths)
        for row, (steps, time) in enumerate(zip(*lengths.values(), strict=True)):
            own = model([given["frames"][row : row + 1, :steps], given["source"][row : row + 1, :time]])[0]
            np.testing.assert_allclose(answer["sequence"][row, :steps], own, rtol=1e-4, atol=1e-5)


@pytest.mark.server
def test_a_text_beside_features(tokenizer, tmp_path):
    """The tokenizer reads one input of a dict; an input named NAME_lengths gets the lengths, the other one a mask."""
    inputs = {
        "words": keras.Input((None,), dtype="int32", name="words"),
        "words_lengths": keras.Input((), dtype="int32", name="words_lengths"),
        "frames": keras.Input((None, 2), name="frames"),
    }
    words = layers.Embedding(tokenizer.vocabulary_size, 3, mask_zero=True)(inputs["words"])
    count = keras.ops.cast(inputs["words_lengths"], "float32")[:, None]
    both = layers.Concatenate()([layers.GlobalAveragePooling1D()(words), kseq.layers.GRU(3)(inputs["frames"]), count])
    model = drawn(keras.Model(inputs, layers.Dense(3)(both)))
    presets = {"words": "text", "frames": kseq.export.Features()}
    folder = export(model, tmp_path, inputs=presets, answers="classes", source=tokenizer, class_names=NAMES)
    frames, lengths = np.ones([2, 3, 2], "float32"), np.array([3, 1], "int32")
    answer = session_answer(folder, text=texts(["cab", "a"]), frames=frames, frames_lengths=lengths)
    for row, (text, length) in enumerate([("cab", 3), ("a", 1)]):
        ids, count = tokenizer([text])
        given = {"words": ids, "words_lengths": count, "frames": frames[:1, :length]}
        given = {name: keras.ops.convert_to_tensor(value) for name, value in given.items()}
        own = np.asarray(keras.ops.softmax(model(given)))[0]
        np.testing.assert_allclose(answer["probabilities"][row], np.sort(own)[::-1], rtol=1e-4)
        assert [name.decode() for name in answer["classes"][row]] == [NAMES[index] for index in np.argsort(-own)]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            "features",
            r"has the inputs \['past', 'future', 'size'\]. Give a preset for each, such as inputs={'past': ...",
        ),
        ({"past": "features"}, r"presets for \['past'\], but the model has the inputs \['past', 'future', 'size'\]"),
        ({"past": "features", "future": "features", "sizes": "features"}, "Give a preset for each, by the name"),
        ({"past": "words", "future": "features", "size": "features"}, r"inputs\['past'\]='words', but the presets are"),
        ({"past": None, "future": "features", "size": "features"}, r"inputs\['past'\] is None, but it must be one of"),
        ({"past": "features", "future": "features", "size": "features"}, "all sequences are padded to the same number"),
        (
            {"past": "features", "future": "features", "size": kseq.models.RowInputs(dtype="float32")},
            r"inputs\['size'\] has rows of shape \(\), but the model's input has shape \(None, 2\)",
        ),
        ({}, "Give a preset for each"),
    ],
)
def test_presets_by_name_that_do_not_fit_are_refused(inputs, message, tmp_path):
    with pytest.raises((TypeError, ValueError), match=message):
        kseq.export_saved_model(forecaster(), tmp_path / "m", inputs=inputs, answers="sequence")


@pytest.mark.parametrize(
    ("inputs", "source", "message"),
    [
        (
            {"question": "text", "passage": "text"},
            "both",
            "a request contains one text. Give one of them, and 'tokens'",
        ),
        ({"question": "text", "passage": "tokens"}, "both", "must be the one tokenizer of a text"),
        ({"question": "text", "passage": "tokens"}, "names", "must be the one tokenizer of a text"),
        ({"question": "text", "passage": "tokens"}, None, "must be the one tokenizer of a text"),
    ],
)
def test_sources_that_do_not_fit_the_texts_are_refused(inputs, source, message, tokenizer, tmp_path):
    ids = [keras.Input((None,), dtype="int32", name=name) for name in inputs]
    vectors = [kseq.layers.GRU(3)(layers.Embedding(9, 3, mask_zero=True)(each)) for each in ids]
    source = {"both": {"question": tokenizer, "passage": tokenizer}, "names": ["a"], None: None}[source]
    model = keras.Model(ids, layers.Concatenate()(vectors))
    with pytest.raises(ValueError, match=message):
        kseq.export_saved_model(model, tmp_path / "m", inputs=inputs, source=source, answers="vectors")
