"""Exports that are killed: a server loads nothing of them, and the next export succeeds and removes their files."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import kseq
from kseq.export import scratch_folder as scratch
from kseq.export.scratch_folder import LOCK, PREFIX, scratch_folder
from kseq_serving.models.version_source import version_folders

pytestmark = pytest.mark.server
# Names in the export's module that are replaced by a function that kills the process as `kill -9` does.
MOMENTS = {"write_warmup": "graph and weights are written, warm-up requests are not", "shutil": "all is written"}
# Importing takes longest, so one process imports, and forks one export for each moment, and an undisturbed one.
EXPORTS = """
import os, shutil, signal, sys
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
killed = [run(f"{base}/{moment}", moment) for moment in moments]
shutil.copytree(f"{base}/{moments[0]}", f"{base}/next")
print(killed, run(f"{base}/next", ""))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Base folders of killed exports by moment; and `next`, a copy of the first one with an undisturbed export."""
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
    assert version_folders(os.listdir(folder / "next")) == {1: "1"}
    served = kseq.load_saved_model(folder / "next")
    answer = served(steps=np.ones((1, 3, 1), "float32"), lengths=np.array([3], "int32"))
    assert answer["sum"].tolist() == [6.0]


def test_the_next_export_removes_the_files_of_the_killed_one(folder):
    assert list((folder / "next").glob(".*")) == []


def test_an_export_removes_no_folder_of_one_that_runs(tmp_path):
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path) as second:
        assert sorted(tmp_path.iterdir()) == sorted((first, second))
    assert list(tmp_path.iterdir()) == []


def left_behind(base, name):
    """Make a folder like that of a killed export, without its process."""
    (base / name).mkdir()
    (base / name / LOCK).touch()
    return base / name


def test_a_folder_stays_in_doubt(tmp_path):
    this = left_behind(tmp_path, f"{PREFIX}{scratch._system_run()}-a")
    other_machine = left_behind(tmp_path, f"{PREFIX}0b8a9fd6-0000-0000-0000-000000000000-b")
    without_lock = left_behind(tmp_path, f"{PREFIX}{scratch._system_run()}-c")
    (without_lock / LOCK).unlink()
    with scratch_folder(tmp_path) as running:
        assert sorted(tmp_path.iterdir()) == sorted((other_machine, without_lock, running))
    assert not this.exists()


def test_no_folder_is_removed_where_locks_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "_lock", lambda _descriptor: False)
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path):
        assert first.is_dir()
        monkeypatch.undo()  # another process, whose locks do not fail
        with scratch_folder(tmp_path):
            assert first.is_dir()


def test_no_folder_is_removed_where_runs_of_the_system_are_not_told_apart(tmp_path, monkeypatch):
    old = left_behind(tmp_path, f"{PREFIX}{scratch._system_run()}-a")
    monkeypatch.setattr(scratch, "_BOOT_ID", tmp_path / "none")
    with scratch_folder(tmp_path) as running:
        assert running.name.startswith(PREFIX)
        assert old.is_dir()
