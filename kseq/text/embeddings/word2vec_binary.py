"""word2vec's binary files."""

import os
from collections.abc import Iterator

import numpy as np

from kseq.text.embeddings.vector_file import Report, check_dim, check_finite, damaged, header_sizes, opened

LONGEST_WORD = 10_000  # bytes: a longer one is a sign of a damaged file


class Word2VecBinary:
    """A binary file: a line with the number of words and their size, then each word, a blank, and float32 numbers.

    Args:
        path: The file, packed by gzip if its name ends with ".gz".

    Raises:
        ValueError: If the first line has not two whole numbers, or the second is no size of a vector.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path
        with opened(path) as file:
            sizes = header_sizes(file.readline(100))
        if sizes is None:
            raise damaged(path, "line 1", "expected the number of words and the size of their vectors.")
        self.count, self.dim = sizes
        check_dim(path, self.dim)

    def vectors(self, wanted: frozenset[bytes], report: Report | None = None) -> Iterator[tuple[bytes, np.ndarray]]:
        """Yield the vectors of the wanted words, see `VectorFile.vectors`."""
        seen: set[bytes] = set()
        size = 4 * self.dim
        with opened(self.path, report) as file:
            file.readline()
            for number in range(1, self.count + 1):
                word = self._word(file, number)
                numbers = file.read(size)
                if len(numbers) < size:
                    raise damaged(self.path, f"word {number}", f"the file ends within word {number} of {self.count}.")
                if word in wanted and word not in seen:
                    seen.add(word)
                    vector = np.frombuffer(numbers, "<f4").astype("float32")
                    check_finite(self.path, f"word {number}", vector)
                    yield word, vector

    def _word(self, file, number: int) -> bytes:
        """Return the next word; some programs end each row with a line feed, which is not part of the next word."""
        found = bytearray()
        while (byte := file.read(1)) != b" ":
            if not byte or len(found) > LONGEST_WORD:
                raise damaged(self.path, f"word {number}", f"there is no end of word {number} of {self.count}.")
            found += byte
        return bytes(found).lstrip(b"\n")
