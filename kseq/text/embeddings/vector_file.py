"""The contract of files with vectors of words, and the detection of their format."""

import gzip
import io
import os
import pathlib
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Protocol

import numpy as np

FASTTEXT_MAGIC = 793712314
Report = Callable[[int], object]
LARGEST_DIM = 100_000  # numbers in a vector: more are a sign of a damaged file
FORMATS = "glove", "word2vec", "word2vec_binary", "fasttext", "fasttext_binary"


class VectorFile(Protocol):
    """An open file with vectors of words.

    Attributes:
        dim: Size of the vectors.
    """

    dim: int

    def vectors(self, wanted: frozenset[bytes], report: Report | None = None) -> Iterator[tuple[bytes, np.ndarray]]:
        """Yield each word in `wanted` that the file has, with its vector, float32 `(dim,)`; at most once.

        Args:
            wanted: The words.
            report: Called with the number of bytes that were read since the last call.

        Raises:
            ValueError: If the file is damaged.
        """
        ...


class _Reported(io.FileIO):
    """A file that reports how many bytes are read."""

    report: Report | None = None

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        if self.report is not None and count:
            self.report(count)
        return count


@contextmanager
def opened(path: str | os.PathLike[str], report: Report | None = None) -> Iterator[IO[bytes]]:
    """Open a file, unpacked on the fly if its name ends with ".gz", and report the bytes that are read of it.

    Raises:
        ValueError: While it is read, if it is packed by gzip and damaged, or is not packed.
    """
    raw = _Reported(path)
    raw.report = report
    with io.BufferedReader(raw, 1 << 16) as file:
        try:
            yield gzip.GzipFile(fileobj=file) if pathlib.Path(path).suffix == ".gz" else file  # type: ignore[misc]
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise damaged(path, "gzip", f"{error}.") from error


def detected_format(path: str | os.PathLike[str]) -> str:
    """Return the format of a file, one of `FORMATS`.

    Raises:
        ValueError: If the file is empty.
    """
    with opened(path) as file:
        start = file.read(4096)
    if not start.strip():
        raise ValueError(f"{path} is empty, but expected vectors of words.")
    if len(start) >= 4 and struct.unpack("<i", start[:4])[0] == FASTTEXT_MAGIC:
        return "fasttext_binary"
    header, _, rest = start.partition(b"\n")
    if header_sizes(header) is None:
        return "glove"
    # Numbers in binary contain control characters; text contains none but blanks and ends of lines.
    is_text = not any(byte < 9 or 13 < byte < 32 for byte in rest)
    return "word2vec" if is_text else "word2vec_binary"


def header_sizes(line: bytes) -> tuple[int, int] | None:
    """Return the number of words and the size of the vectors in the first line of a file, or None if it has none."""
    parts = line.split()
    if len(parts) != 2 or not all(part.isdigit() and len(part) < 19 for part in parts):
        return None
    return int(parts[0]), int(parts[1])


def check_dim(path: Any, dim: int) -> None:
    """Raise ValueError if the size of the vectors that a file states is not one of vectors of words."""
    if not 1 <= dim <= LARGEST_DIM:
        raise damaged(path, "start", f"it says that vectors have {dim} numbers, but expected 1 to {LARGEST_DIM}.")


def check_finite(path: Any, place: str, vector: np.ndarray) -> None:
    """Raise ValueError if a vector has NaN or infinity."""
    if not np.isfinite(vector).all():
        number = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise damaged(path, place, f"number {number + 1} of the vector is {vector[number]}, but it must be finite.")


def damaged(path: Any, place: str, problem: str) -> ValueError:
    """Return the error for a file that cannot be read on at `place`."""
    return ValueError(f"{path}, {place}: {problem} Nothing was loaded. Is the file complete?")
