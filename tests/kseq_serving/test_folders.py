import errno
import time
from pathlib import Path

from kseq_serving.models.folders import Folders
from tests.kseq_serving.conftest import HungFolders


def timed_out(found: list[str] | OSError) -> bool:
    return isinstance(found, OSError) and found.errno == errno.ETIMEDOUT


def test_names_and_reasons(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1").mkdir()
    found = Folders().names([f"{tmp_path}/a", f"{tmp_path}/no", "/nul\0"])
    assert found[f"{tmp_path}/a"] == ["1"]
    assert isinstance(found[f"{tmp_path}/no"], FileNotFoundError)
    assert isinstance(found["/nul\0"], OSError)


def test_folders_that_hang_hold_up_no_other_for_longer_than_the_timeout(hung: HungFolders, tmp_path: Path):
    (tmp_path / "1").mkdir()
    hung.paths = {f"/hung/{index}" for index in range(20)}
    folders, started = Folders(timeout_s=0.3), time.monotonic()
    found = folders.names([*hung.paths, str(tmp_path)])
    assert found[str(tmp_path)] == ["1"]
    assert all(timed_out(found[path]) for path in hung.paths)
    assert 0.25 < time.monotonic() - started < 2.0


def test_a_folder_that_hangs_is_not_looked_at_twice_and_comes_back(hung: HungFolders, tmp_path: Path):
    hung.paths = {str(tmp_path)}
    folders = Folders(timeout_s=0.1)
    for _ in range(5):
        assert timed_out(folders.names([str(tmp_path)])[str(tmp_path)])
    assert hung.looks == 1
    hung.let_go()
    (tmp_path / "1").mkdir()  # the listing that hung may have missed it
    deadline = time.monotonic() + 10
    while timed_out(found := folders.names([str(tmp_path)])[str(tmp_path)]):
        assert time.monotonic() < deadline
    assert found == ["1"]
    assert not folders._listings
