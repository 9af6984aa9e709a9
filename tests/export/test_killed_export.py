"""Exports that are killed: a server loads nothing of them, and the next export succeeds."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import kseq
from kseq_serving.models.version_source import version_folders

pytestmark = pytest.mark.server
# Names in the export's module that are replaced by a function that kills the process as `kill -9` does.
MOMENTS = {"write_warmup": "graph and weights are written, warm-up requests are not", "shutil": "all is written"}
# Importing takes longest, so one process imports, and forks one export for each moment, and an undisturbed one.
EXPORTS = """
import os, signal, sys
import keras
import kseq.export.saved_model as export
from kseq.models.export_contract import Serving, StepInputs

class Killer:
    def __call__(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)
    copymode = __call__

class Doubling(keras.Model):
    def build(self):
        self.factor = self.add_weight(shape=(), initializer=keras.initializers.Constant(2.0))
        self.built = True
    def serving(self, options):
        inputs = {"steps": StepInputs(dtype="float32", step_shape=(1,))}
        return Serving(inputs, lambda tensors: {"sum": self.factor * keras.ops.sum(tensors["steps"], axis=(1, 2))})

def run(base, moment):
    pid = os.fork()
    if not pid:
        if moment:
            setattr(export, moment, Killer())
        export.export_saved_model(Doubling(), base, strategy=None, buckets=(4,), batch_sizes=(1,), verbose=False)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

base, *moments = sys.argv[1:]
print([run(f"{base}/{moment}", moment) for moment in moments], run(f"{base}/{moments[0]}", ""))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Base folders of killed exports by moment; in the first one an undisturbed export followed."""
    base = tmp_path_factory.mktemp("killed")
    arguments = [sys.executable, "-W", "ignore", "-c", EXPORTS, str(base), *MOMENTS]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == f"[{-signal.SIGKILL}, {-signal.SIGKILL}] 0\n", done.stderr
    return base


@pytest.mark.parametrize("moment", MOMENTS)
def test_it_leaves_files_that_are_no_version(folder, moment):
    (scratch,) = (folder / moment).glob(".*")
    assert (scratch / "1" / "saved_model.pb").is_file()
    assert version_folders([scratch.name]) == {}


def test_no_version_is_there_before_a_whole_one_is(folder):
    assert version_folders(os.listdir(folder / "shutil")) == {}
    assert version_folders(os.listdir(folder / "write_warmup")) == {1: "1"}
    served = kseq.load_saved_model(folder / "write_warmup")
    answer = served(steps=np.ones((1, 3, 1), "float32"), lengths=np.array([3], "int32"))
    assert answer["sum"].tolist() == [6.0]
