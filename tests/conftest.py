"""Settings shared by all tests."""

import gc
import os
import random

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before tensorflow is imported

import keras
import pytest
from tensorflow.python.eager import context

import kseq


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On JAX, deselect tests not marked `every_backend`: only `kseq/backend` differs there."""
    for item in items:
        if marker := item.get_closest_marker("long_on_jax"):
            item.add_marker("every_backend")
            if keras.backend.backend() == "jax" and not _is_one_of(item, marker.args):
                item.add_marker("long")
    if keras.backend.backend() == "tensorflow":
        return
    left_out = [item for item in items if not item.get_closest_marker("every_backend")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item.get_closest_marker("every_backend")]


def _is_one_of(item: pytest.Item, names: tuple[str, ...]) -> bool:
    """Return whether a parameter of a test has one of the names."""
    return bool(names) and not set(names).isdisjoint(item.callspec.id.split("-"))


def pytest_collection_finish() -> None:
    """Exclude all objects made by imports from garbage collection, which saves 3 % of the suite's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _kernels_are_kept() -> None:
    """Let TensorFlow keep its kernels when a seed is set, which saves 20 % of the suite's time.

    It drops them for the sake of its own random operations that have a state; kseq and Keras use others.
    """

    def set_seed(self: context.Context, seed: int) -> None:
        self._seed, self._rng = seed, random.Random(seed)

    context.Context._set_global_seed = set_seed


@pytest.fixture(autouse=True)
def _seeded() -> None:
    keras.utils.set_random_seed(7)


@pytest.fixture(autouse=True, scope="session")
def _no_compiled_parts() -> None:
    """Turn compilation by parts off, which pays after many steps; the tests of it turn it on."""
    kseq.config.set_jit_compile(False)
