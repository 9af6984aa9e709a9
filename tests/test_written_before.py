"""Compatibility with files of an earlier kseq: they load, answer, train and decode as before."""

import functools
import json
import zipfile

import keras
import numpy as np
import pytest

from tests.assets.write import EXPORTS, FOLDER, MODELS, answers, answers_of_export, decoded, train

# Answers are float32 of about 1. A changed order of operations, XLA, and JAX change them by less than 2e-6.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
every_backend = pytest.mark.every_backend


def recorded(name: str) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays written with a model, by group (`inputs`, `answers`, ...) and name."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    with np.load(FOLDER / f"{name}.npz") as arrays:
        for key, value in arrays.items():
            group, _, own = key.partition("/")
            groups.setdefault(group, {})[own] = value
    return groups


@pytest.fixture(scope="module")
def load():
    """Return a function that loads a model once for all tests that do not train it."""
    return functools.cache(lambda name: keras.saving.load_model(FOLDER / f"{name}.keras"))


def assert_answers(model: keras.Model, inputs: dict, expected: dict) -> None:
    got = answers(model, inputs)
    assert len(got) == len(expected)
    for index, value in enumerate(got):
        np.testing.assert_allclose(value, expected[str(index)], err_msg=f"output {index}", **CLOSE)


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=every_backend if name == "cells" else ()) for name in MODELS]
)
def test_a_model_answers_as_it_did(name, load):
    then = recorded(name)
    assert_answers(load(name), then["inputs"], then["answers"])


@pytest.mark.long
def test_training_goes_on_as_it_did():
    """The optimizer's state is loaded too: without Adam's moments the step would differ."""
    model, then = keras.saving.load_model(FOLDER / "functional.keras"), recorded("functional")
    np.testing.assert_allclose(train(model, then["inputs"]), then["loss"][""], **CLOSE)
    assert_answers(model, then["inputs"], then["trained"])


@pytest.mark.long
@pytest.mark.parametrize("name", ["additive", "recognizer"])
def test_a_loaded_strategy_decodes_as_it_did(name, load):
    then = recorded(name)
    strategy = keras.saving.deserialize_keras_object(json.loads(str(then["strategy"][""])))
    got = decoded(load(name), then["inputs"], strategy)
    np.testing.assert_array_equal(got["tokens"], then["decoded"]["tokens"])
    np.testing.assert_allclose(got["scores"], then["decoded"]["scores"], **CLOSE)


@pytest.mark.long
@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_answers_as_it_did(name, tmp_path):
    zipfile.ZipFile(FOLDER / f"{name}.zip").extractall(tmp_path)
    then = recorded(name)
    got = answers_of_export(tmp_path, "serving_default", then["inputs"])
    assert set(got) == set(then["answers"])
    for key, expected in then["answers"].items():
        if expected.dtype == "float32":
            np.testing.assert_allclose(got[key], expected, err_msg=key, **CLOSE)
        else:
            np.testing.assert_array_equal(got[key], expected, err_msg=key)
