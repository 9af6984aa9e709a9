"""ARPA files of n-gram models: the text format that KenLM, SRILM and others write."""

import gzip
import io
import math
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

ZERO = -99.0  # the logarithm of zero in ARPA files
KENLM, GZIP = b"mmap lm http://kheafield.com/code", b"\x1f\x8b"  # the first bytes of KenLM's binaries and of .gz files

Ngram = tuple[tuple[str, ...], float, float]


def read_arpa(path: pathlib.Path) -> Iterator[Ngram]:
    """Yield `(words, log10 probability, log10 back-off weight)` of every n-gram of an ARPA file, plain or gzipped.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no ARPA file or is cut, a line is malformed, or the n-grams are not as many as the
            header says.
    """
    with open(path, "rb") as file:
        start = file.read(len(KENLM))
        if start == KENLM:
            raise ValueError(
                f"{path} is a binary of KenLM, which only KenLM can read. Give the ARPA file that build_binary made it "
                "from; if it is lost, train the model again with lmplz --arpa."
            )
        file.seek(0)
        with gzip.open(file) if start.startswith(GZIP) else file as plain:
            try:
                yield from _Reader(path).ngrams(plain)
            except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
                raise ValueError(f"{path} is no ARPA file in UTF-8, or it is damaged: {error}.") from error


class _Reader:
    """A pass over the lines of an ARPA file, in three parts: counts, n-grams by order, end."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.expected: dict[int, int] | None = None  # how many n-grams of each order the header promises
        self.found: dict[int, int] = {}

    def ngrams(self, file: Any) -> Iterator[Ngram]:
        """Yield the n-grams; see `read_arpa`."""
        with io.TextIOWrapper(file, encoding="utf-8") as lines:
            yield from self._read(lines)

    def _read(self, lines: Iterable[str]) -> Iterator[Ngram]:
        order, ended = 0, False
        for number, line in enumerate(lines, start=1):
            line = line.strip()
            if not line or ended:
                continue
            if line == "\\data\\":
                self.expected = {}
            elif self.expected is None:
                continue  # comments may come before the header
            elif line == "\\end\\":
                ended = True
            elif section := re.fullmatch(r"\\(\d+)-grams:", line):
                order = int(section[1])
                self.found[order] = 0
            elif order:
                yield self._ngram(line, number, order)
            elif count := re.fullmatch(r"ngram\s+(\d+)\s*=\s*(\d+)", line):
                self.expected[int(count[1])] = int(count[2])
        self._check(ended)

    def _ngram(self, line: str, number: int, order: int) -> Ngram:
        fields = line.split()
        self.found[order] += 1
        try:
            if len(fields) not in (order + 1, order + 2):
                raise ValueError
            probability = max(float(fields[0]), ZERO)
            backoff = float(fields[order + 1]) if len(fields) == order + 2 else 0.0
            if math.isnan(float(fields[0])) or probability > 0 or not math.isfinite(backoff):
                raise ValueError
        except ValueError:
            raise ValueError(
                f"{self.path}, line {number}: expected a number, {order} words and perhaps a number, but got "
                f"{line!r}. The first number is the log10 of a probability, 0 or less."
            ) from None
        return tuple(fields[1 : order + 1]), probability, backoff

    def _check(self, ended: bool) -> None:
        """Raise ValueError unless the file has a header, an end, and the n-grams that the header promises."""
        if not self.expected:
            raise ValueError(
                f'{self.path} is no ARPA file: it has no header \\data\\ with lines such as "ngram 1=5000". Give the '
                "file that lmplz --arpa (KenLM) or ngram-count -lm (SRILM) writes."
            )
        orders = self.found.keys() | self.expected.keys()  # an order without n-grams may have no section
        complete = all(self.found.get(order, 0) == self.expected.get(order, 0) for order in orders)
        if not complete or not ended:
            raise ValueError(
                f"{self.path} is not complete: its header promises {self.expected} n-grams by order, but it has "
                f"{self.found}, and {'an' if ended else 'no'} \\end\\. Copy or write the file again."
            )
