"""Files with a word and the numbers of its vector in each line: GloVe, word2vec's text, and fastText's .vec."""

import os
from collections.abc import Iterator

import numpy as np

from kseq.text.embeddings.vector_file import Report, damaged, header_sizes, opened


class TextVectors:
    """A text file with a word and its numbers in each line, separated by blanks.

    The lines of words that are not wanted are not parsed. A word may contain blanks, as some of GloVe's do.

    Args:
        path: The file, packed by gzip if its name ends with ".gz".

    Raises:
        ValueError: If the first line has no numbers.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path
        with opened(path) as file:
            first, second = file.readline(), file.readline()
        sizes = header_sizes(first)
        self.count = None if sizes is None else sizes[0]
        self.dim = len(first.split()) - 1 if sizes is None else sizes[1]
        self._line_of_first = 1 if sizes is None else 2
        if self.dim < 1 or not (second or sizes is None or sizes[0] == 0):
            raise damaged(path, f"line {self._line_of_first}", "expected a word and its numbers.")

    def vectors(self, wanted: frozenset[bytes], report: Report | None = None) -> Iterator[tuple[bytes, np.ndarray]]:
        """Yield the vectors of the wanted words, see `VectorFile.vectors`."""
        seen: set[bytes] = set()
        number = 0
        with opened(self.path, report) as file:
            for number, line in enumerate(file, start=1):
                if number < self._line_of_first:
                    continue
                word, vector = self._parsed(line, number, wanted)
                if vector is not None and word not in seen:
                    seen.add(word)
                    yield word, vector
        words = number - self._line_of_first + 1
        if self.count is not None and words != self.count:
            raise damaged(self.path, f"line {number}", f"the file ends after {words} of {self.count} words.")

    def _parsed(self, line: bytes, number: int, wanted: frozenset[bytes]) -> tuple[bytes, np.ndarray | None]:
        """Return the word of a line, and its vector if it is wanted."""
        parts = line.rstrip().rsplit(b" ", self.dim)
        word, numbers = parts[0], parts[1:]
        if len(numbers) != self.dim or _ends_with_number(word):
            given = len(line.split()) - 1
            raise damaged(self.path, f"line {number}", f"{given} numbers, but the lines before have {self.dim}.")
        if word not in wanted:
            return word, None
        try:
            return word, np.array(numbers, "float32")
        except ValueError as error:
            raise damaged(self.path, f"line {number}", f"{error}.") from None


def _ends_with_number(word: bytes) -> bool:
    """Return whether a word has a blank and a decimal number at its end: the line has too many numbers."""
    _, blank, last = word.rpartition(b" ")
    if not blank or b"." not in last:
        return False
    try:
        float(last)
    except ValueError:
        return False
    return True
