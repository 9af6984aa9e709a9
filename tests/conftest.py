"""Settings shared by all tests."""

import gc
import os
import pathlib
import random

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before tensorflow is imported
# Keras and kseq are imported inside of functions: the process that hands the tests out calls none of them, and starts
# ten seconds earlier.


def _backend() -> str:
    import keras

    return keras.backend.backend()


def pytest_ignore_collect(collection_path: pathlib.Path) -> bool | None:
    """On JAX, import no file without a test for it, which is a fifth of the time before the first test."""
    if not collection_path.name.startswith("test_") or _backend() == "tensorflow":
        return None
    text = collection_path.read_text(encoding="utf-8")
    return None if "every_backend" in text or "long_on_jax" in text else True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what `mostly_long` and `long_on_jax` mean; on JAX, deselect what is not marked `every_backend`.

    Only `kseq/backend` differs there.
    """
    for item in items:
        if (marker := item.get_closest_marker("mostly_long")) and not _is_one_of(item, marker.args):
            item.add_marker("long")
        if marker := item.get_closest_marker("long_on_jax"):
            item.add_marker("every_backend")
            if _backend() == "jax" and not _is_one_of(item, marker.args):
                item.add_marker("long")
    if _backend() == "tensorflow":
        return
    left_out = [item for item in items if not item.get_closest_marker("every_backend")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item.get_closest_marker("every_backend")]


def _is_one_of(item: pytest.Item, names: tuple[str, ...]) -> bool:
    """Return whether one of the names is that of a parameter of a test, or of all of them."""
    return bool(names) and not {item.callspec.id, *item.callspec.id.split("-")}.isdisjoint(names)


def pytest_collection_finish() -> None:
    """Exclude all objects made by imports from garbage collection, which saves 3 % of the suite's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _kernels_are_kept() -> None:
    """Let TensorFlow keep its kernels when a seed is set, which saves 20 % of the suite's time.

    It drops them for the sake of its own random operations that have a state; kseq and Keras use others.
    """
    from tensorflow.python.eager import context

    def set_seed(self: context.Context, seed: int) -> None:
        self._seed, self._rng = seed, random.Random(seed)

    context.Context._set_global_seed = set_seed


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import keras

    keras.utils.set_random_seed(7)


@pytest.fixture(autouse=True, scope="session")
def _no_compiled_parts() -> None:
    """Turn compilation by parts off, which pays after many steps; the tests of it turn it on."""
    import kseq

    kseq.config.set_jit_compile(False)
