"""Requests to a loaded model that do not fit its signature, and its description."""

import keras
import numpy as np
import pytest
from keras import layers

import kseq
from tests.export.test_keras_models import SIZES

TAKES = r"but the signature takes features float32 \(None, None, 2\), lengths int32 \(None,\)\."


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    model = keras.Sequential([keras.Input((None, 2)), layers.Dense(3)])
    options = {**SIZES, "inputs": "features", "answers": "sequence", "warmup": False}
    return kseq.load_saved_model(kseq.export_saved_model(model, tmp_path_factory.mktemp("models") / "m", **options))


@pytest.mark.long
def test_lengths_may_be_left_out_or_empty(served):
    features = np.ones([2, 3, 2])  # float64
    for lengths in ({}, {"lengths": []}, {"lengths": [3, 3]}):
        assert served(features=features, **lengths)["lengths"].tolist() == [3, 3]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"features": np.ones([3, 2])},
            rf"features has shape \(3, 2\), {TAKES} Give a list of rows: features=\[\.\.\.\]",
        ),
        ({"features": np.ones([1, 3, 4])}, rf"features has shape \(1, 3, 4\), {TAKES}"),
        ({"features": 1.0}, rf"features has shape \(\), {TAKES}"),
        ({"features": [[[1, 2]], [[1]]]}, rf"features is no array of float32, {TAKES}"),
        ({"features": np.ones([1, 3, 2]), "lengths": 3}, rf"lengths has shape \(\), {TAKES} Give a list"),
        ({"features": np.ones([1, 3, 2]), "lengths": ["3"]}, rf"lengths is no array of int32, {TAKES}"),
        ({"feature": np.ones([1, 3, 2])}, rf"Inputs are \['feature', 'lengths'\], {TAKES}"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, message, served):
    with pytest.raises(ValueError, match=message):
        served(**inputs)


def test_inputs_without_a_name_are_refused(served):
    with pytest.raises(TypeError, match=r"1 inputs have no name. .* the signature takes features float32"):
        served(np.ones([1, 3, 2]))


def test_the_description_has_folder_inputs_and_outputs(served):
    described = repr(served)
    assert str(served.folder) in described
    assert "inputs: features float32 (None, None, 2), lengths int32 (None,); outputs: error string (None,)" in described
