"""Files that are written as a whole, or not at all."""

import errno
import io
import os

import pytest

import kseq
from kseq.training.not_finite import save_batch
from kseq.whole_files import write_whole


def test_a_file_is_replaced_when_it_is_complete(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    (tmp_path / "link").symlink_to(path)

    def half(file):
        file.write(b"half")
        file.flush()
        assert path.read_bytes() == b"before"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, half)
    assert path.read_bytes() == b"before"
    write_whole(tmp_path / "link", b"after")
    assert path.read_bytes() == b"after"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "link"]
    assert os.stat(path).st_mode & 0o777 == 0o666 & ~current_umask()
    write_whole("/dev/null", b"a device is not replaced")
    assert not os.path.isfile("/dev/null")


def current_umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_saves_leave_no_half_file_on_a_full_disk(tmp_path, monkeypatch):
    tokenizer = kseq.text.WordTokenizer().adapt(["a b"])
    tokenizer.save(tmp_path / "tokenizer.json")
    before = (tmp_path / "tokenizer.json").read_bytes()

    class Full(io.FileIO):
        def write(self, data):
            super().write(data[:3])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("kseq.whole_files.open", Full, raising=False)
    for save in (
        lambda: tokenizer.save(tmp_path / "tokenizer.json"),
        lambda: tokenizer.vocabulary.save(tmp_path / "vocabulary.txt"),
        lambda: save_batch(tmp_path / "batch.npz", {"x": [1.0]}),
    ):
        with pytest.raises(OSError, match="No space left"):
            save()
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    assert (tmp_path / "tokenizer.json").read_bytes() == before
