"""Settings that all tests share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before tensorflow is imported

import keras
import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if keras.backend.backend() != "tensorflow":
        for item in items:
            if item.get_closest_marker("tensorflow"):
                item.add_marker(pytest.mark.skip(reason="needs Keras on TensorFlow"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    keras.utils.set_random_seed(7)
