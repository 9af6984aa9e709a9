"""Files with a word and the numbers of its vector in each line: GloVe, word2vec's text, and fastText's .vec."""

import os
from collections.abc import Iterator

import numpy as np

from kseq.text.embeddings.vector_file import Report, check_dim, check_finite, damaged, header_sizes, opened


class TextVectors:
    """A text file with a word and its numbers in each line, separated by blanks.

    A word may contain blanks, as some of GloVe's do (". . ."), but no number after a blank: that is a number too many.
    Only the number of numbers is checked in the lines of words that are not wanted.

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
        self.dim = _count_numbers(first) if sizes is None else sizes[1]
        self._line_of_first = 1 if sizes is None else 2
        if self.dim < 1 or not (second or sizes is None or sizes[0] == 0):
            raise damaged(path, f"line {self._line_of_first}", "expected a word and its numbers.")
        check_dim(path, self.dim)

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
        line = line.rstrip()
        if b"  " in line:
            line = b" ".join(filter(None, line.split(b" ")))
        parts = line.rsplit(b" ", self.dim)
        word, numbers = parts[0], parts[1:]
        _, blank, last = word.rpartition(b" ")
        if len(numbers) != self.dim or not _is_number(numbers[0]) or (blank and _is_number(last)):
            raise damaged(self.path, f"line {number}", self._wrong_number(line))
        if word not in wanted:
            return word, None
        try:
            with np.errstate(over="ignore"):  # the error below says it
                vector = np.array(numbers, "float32")
        except ValueError as error:
            raise damaged(self.path, f"line {number}", f"{error}.") from None
        check_finite(self.path, f"line {number}", vector)
        return word, vector

    def _wrong_number(self, line: bytes) -> str:
        if b"\t" in line:
            return "the line has tabs, but expected a word and its numbers separated by blanks."
        return f"{_count_numbers(line)} numbers, but the lines before have {self.dim}."


def _count_numbers(line: bytes) -> int:
    """Return how many numbers a line has at its end, after a word."""
    fields = line.split()[1:]
    return next((place for place, each in enumerate(reversed(fields)) if not _is_number(each)), len(fields))


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
