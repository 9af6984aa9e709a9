"""Training on two devices, or in two processes, under `keras.distribution` on JAX is that of one, to 1e-5.

A program is a process of its own, as devices are made when JAX starts.
"""

import contextlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.contracts.models import MAKERS
from tests.distribution.test_devices import ROOT, assert_equal, run
from tests.distribution.test_two_processes import free_ports
from tests.distribution.trainings import differences

pytestmark = [pytest.mark.server, pytest.mark.slow]
DATA_PARALLEL = ("buckets", "arrays", "clipping", "accumulation", "word_vectors")
MODEL_PARALLEL = ("divided_transformer", "divided_embeddings")


def on_jax(names: tuple[str, ...]) -> dict[str, dict]:
    return run("jax_devices", names, KERAS_BACKEND="jax")


@pytest.mark.parametrize("names", [DATA_PARALLEL, MODEL_PARALLEL, tuple(MAKERS)], ids=["data", "model", "every model"])
def test_two_devices_are_one_with_the_whole_batch(names: tuple[str, ...]):
    assert_equal(on_jax(names), names)


def test_rows_that_devices_cannot_share_evenly_are_refused():
    assert "which 2 devices cannot share evenly" in on_jax(("uneven_rows",))["uneven_rows"]["error"]


def trained_by(folder: pathlib.Path, count: int) -> list[dict[str, np.ndarray]]:
    """Return the losses, metrics and weights that each of a number of processes ends with."""
    (port,) = free_ports(1)
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": f"{ROOT}:{ROOT / 'serving'}"}
    program = [sys.executable, "-W", "ignore", "-m", "tests.distribution.jax_processes"]
    files = [folder / f"{count}-{index}.npz" for index in range(count)]
    with contextlib.ExitStack() as stack:
        processes = []
        for index, file in enumerate(files):
            output = stack.enter_context(file.with_suffix(".txt").open("w"))
            arguments = [str(file), str(count), str(index), f"localhost:{port}"]
            each = subprocess.Popen(
                [*program, *arguments], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
            stack.callback(each.wait)
            stack.callback(each.kill)
            processes.append(each)
        for process, file in zip(processes, files, strict=True):
            assert process.wait(300) == 0, file.with_suffix(".txt").read_text()[-4000:]
    return [dict(np.load(file)) for file in files]


def test_two_processes_have_the_losses_of_one(tmp_path: pathlib.Path):
    (alone,) = trained_by(tmp_path, 1)
    for each in trained_by(tmp_path, 2):
        found = differences(each, alone)
        assert not {name: value for name, value in found.items() if not value <= 1e-5}
