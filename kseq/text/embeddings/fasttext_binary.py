"""fastText's binary models, which have vectors of character n-grams."""

import os
import struct
from collections.abc import Iterator
from typing import IO

import numpy as np

from kseq.text.embeddings.vector_file import FASTTEXT_MAGIC, Report, check_dim, check_finite, damaged, opened

VERSION = 12
VERSION_WITHOUT_NGRAMS = 11  # whose supervised models have no n-grams of characters, whatever the file says
SUPERVISED = 3
WORD, END_OF_LINE = 0, b"</s>"
FNV_OFFSET, FNV_PRIME = 2166136261, 16777619  # of the 32-bit hash function FNV-1a
# dim, window, epochs, smallest count, negatives, word n-grams, loss, model, buckets, min n, max n, rate of updates; t
ARGUMENTS = struct.Struct("<12id")


class FastTextBinary:
    """A `.bin` file: the vector of any word is the mean of its own and of those of its character n-grams.

    So every word has a vector that has an n-gram, also words that the model was not trained on. The matrix stays on
    disk: only the rows of the wanted words are read. The labels of a supervised model are not among the words.

    Args:
        path: The file, not packed.

    Raises:
        ValueError: If it is no such file, is damaged, or is quantised (`.ftz`).

    Reference: P. Bojanowski et al., "Enriching word vectors with subword information", 2017.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path
        with opened(path) as file:
            magic, version = self._unpacked(file, "<ii")
            if magic != FASTTEXT_MAGIC or version > VERSION:
                raise damaged(path, "start", f"no fastText model of version {VERSION} or earlier.")
            numbers = ARGUMENTS.unpack(self._read(file, ARGUMENTS.size))
            self.dim, self.buckets, self.shortest, self.longest = numbers[0], *numbers[8:11]
            check_dim(path, self.dim)
            if (version, numbers[7]) == (VERSION_WITHOUT_NGRAMS, SUPERVISED):
                self.longest = 0
            self.words = self._words(file)
            (quantised,) = self._unpacked(file, "<?")
            if quantised:
                raise ValueError(f"{path} is a quantised fastText model, which is not read. Load the .bin file.")
            rows, columns = self._unpacked(file, "<qq")
            expected = len(self.words) + (self.buckets if self.longest > 0 else 0)
            if columns != self.dim or rows < expected:
                raise damaged(
                    path, "matrix", f"it has shape ({rows}, {columns}), but expected ({expected}, {self.dim})."
                )
            self._begin, self._rows = file.tell(), rows
        if os.path.getsize(path) < self._begin + 4 * rows * self.dim:
            raise damaged(path, "matrix", f"the file ends within its {rows} rows.")

    def vectors(self, wanted: frozenset[bytes], report: Report | None = None) -> Iterator[tuple[bytes, np.ndarray]]:
        """Yield the vectors of the wanted words, see `VectorFile.vectors`."""
        shape = (self._rows, self.dim)
        table = np.memmap(self.path, "<f4", "r", offset=self._begin, shape=shape)
        # Few rows are read, but all over the matrix: the share of the words stands for that of the bytes.
        ends = np.linspace(self._begin, os.path.getsize(self.path), len(wanted) + 1).astype("int64").tolist()
        read = 0
        for end, word in zip(ends[1:], sorted(wanted), strict=True):
            if report is not None:
                report(end - read)
                read = end
            rows = self.rows_of(word)
            if rows:
                vector = np.asarray(table[rows], "float32").mean(axis=0)
                check_finite(self.path, repr(word.decode("utf-8", "replace")), vector)
                yield word, vector

    def rows_of(self, word: bytes) -> list[int]:
        """Return the rows of the matrix whose mean is the vector of a word."""
        own = [self.words[word]] if word in self.words else []
        if word == END_OF_LINE or not self.buckets:
            return own
        return own + [len(self.words) + hashed(ngram) % self.buckets for ngram in self._ngrams(word)]

    def _ngrams(self, word: bytes) -> Iterator[bytes]:
        characters = [character.encode("utf-8", "surrogateescape") for character in _text(b"<" + word + b">")]
        for begin in range(len(characters)):
            for size in range(self.shortest, self.longest + 1):
                end = begin + size
                alone = size == 1 and (begin == 0 or end == len(characters))
                if size > 0 and end <= len(characters) and not alone:
                    yield b"".join(characters[begin:end])

    def _words(self, file: IO[bytes]) -> dict[bytes, int]:
        """Return the row of each word of the dictionary; the labels that follow the words have no rows."""
        entries, count, _, _, pruned = self._unpacked(file, "<iiiqq")
        rows: dict[bytes, int] = {}
        for row in range(entries):
            word = bytearray()
            while (byte := self._read(file, 1)) != b"\0":
                word += byte
            _, kind = self._unpacked(file, "<qb")
            if kind == WORD:
                rows[bytes(word)] = row
        if list(rows.values()) != list(range(count)):
            raise damaged(self.path, "dictionary", f"expected {count} different words, and labels after them.")
        if pruned > 0:
            raise ValueError(f"{self.path} is a pruned fastText model, which is not read. Load the .bin file.")
        return rows

    def _unpacked(self, file: IO[bytes], kind: str) -> tuple:
        return struct.unpack(kind, self._read(file, struct.calcsize(kind)))

    def _read(self, file: IO[bytes], size: int) -> bytes:
        found = file.read(size)
        if len(found) < size:
            raise damaged(self.path, f"byte {file.tell()}", "the file ends there.")
        return found


def hashed(ngram: bytes) -> int:
    """Return fastText's hash of an n-gram, in which bytes are signed numbers."""
    number = FNV_OFFSET
    for byte in ngram:
        signed = byte - 256 if byte > 127 else byte
        number = ((number ^ (signed & 0xFFFFFFFF)) * FNV_PRIME) & 0xFFFFFFFF
    return number


def _text(word: bytes) -> str:
    return word.decode("utf-8", "surrogateescape")
