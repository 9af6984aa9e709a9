"""The exports of Keras models with `Masking`: the value of the padding, and frames that the model masks itself."""

import keras
import numpy as np
import pytest
from keras import layers

import kseq
from kseq.export.keras_model import KerasModel
from tests.export.test_keras_models import SIZES, drawn

pytestmark = pytest.mark.server  # each test exports a model


def masking(mask_value, **gru):
    values = [keras.Input((None, 2)), layers.Masking(mask_value), kseq.layers.GRU(3, **gru)]
    return drawn(keras.Sequential(values))


def frames(*lengths):
    return np.random.default_rng(0).normal(size=(len(lengths), max(lengths), 2)).astype("float32")


@pytest.mark.parametrize("answers", ["sequence", "vectors"])
def test_padding_has_the_mask_value_of_the_model(answers, tmp_path):
    model = masking(-10.0, return_sequences=answers == "sequence")
    options = {**SIZES, "inputs": "features", "answers": answers, "warmup": False}
    served = kseq.load_saved_model(kseq.export_saved_model(model, tmp_path / "m", **options))
    features = frames(3, 5)
    answer = served(features=features, lengths=[3, 5])
    for row, length in enumerate((3, 5)):
        own = np.asarray(model(features[row : row + 1, :length]))[0]
        given = answer[answers][row][: len(own)] if answers == "sequence" else answer[answers][row]
        np.testing.assert_allclose(given, own, rtol=1e-4, atol=1e-5)
    if answers == "sequence":
        assert answer["lengths"].tolist() == [3, 5]


def test_a_padding_value_of_the_preset_goes_before_that_of_the_model():
    model = masking(-10.0)
    assert KerasModel(model, kseq.export.Features()).inputs["features"].pad_value == -10
    assert KerasModel(model, kseq.export.Features(pad_value=3)).inputs["features"].pad_value == 3
    assert (
        KerasModel(keras.Sequential([keras.Input((None, 2)), *model.layers[1:]]), kseq.export.Features())
        .inputs["features"]
        .pad_value
        == 0
    )


def test_a_masked_frame_within_a_row_is_part_of_the_answer():
    model, features = masking(0.0, return_sequences=True), frames(5, 7)
    features[0, 2] = 0
    features[0, 5:] = 0
    outputs = KerasModel(model, kseq.export.Features())(
        {"features": keras.ops.convert_to_tensor(features), "lengths": np.array([5, 7])}
    )
    answer = kseq.export.Sequence().answer(outputs, None)
    assert np.asarray(answer["lengths"]).tolist() == [5, 7]
    own = np.asarray(model(features))
    np.testing.assert_array_equal(answer["sequence"][0, :5], own[0, :5])
    assert not np.asarray(answer["sequence"][0, 5:]).any()


def test_an_output_with_fewer_steps_ends_with_the_last_step_of_its_own_mask():
    every_second = layers.Lambda(lambda values: values[:, ::2], mask=lambda values, mask: mask[:, ::2])
    model = keras.Sequential([keras.Input((None, 2)), layers.Masking(), every_second])
    features = frames(8, 8)
    features[0, 2] = 0
    features[0, 5:] = 0
    outputs = KerasModel(model, kseq.export.Features())(
        {"features": keras.ops.convert_to_tensor(features), "lengths": np.array([5, 8])}
    )
    assert np.asarray(outputs.mask).sum(axis=1).tolist() == [3, 4]
