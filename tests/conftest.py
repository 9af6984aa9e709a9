"""Settings shared by all tests."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before tensorflow is imported

import keras
import pytest

import kseq


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On JAX, deselect tests not marked `every_backend`: only `kseq/backend` differs there."""
    if keras.backend.backend() == "tensorflow":
        return
    left_out = [item for item in items if not item.get_closest_marker("every_backend")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item.get_closest_marker("every_backend")]


def pytest_collection_finish() -> None:
    """Exclude all objects made by imports from garbage collection, which saves 3 % of the suite's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    keras.utils.set_random_seed(7)


@pytest.fixture(autouse=True, scope="session")
def _no_compiled_parts() -> None:
    """Turn compilation by parts off, which pays after many steps; the tests of it turn it on."""
    kseq.config.set_jit_compile(False)
