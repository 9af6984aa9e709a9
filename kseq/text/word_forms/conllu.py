"""Lemmas by part of speech and form from the treebanks of Universal Dependencies."""

import collections
import os
import pathlib

from kseq.text.files import text_lines

_COLUMNS = 10  # ID, FORM, LEMMA, UPOS, XPOS, FEATS, HEAD, DEPREL, DEPS, MISC


def read_lemmas(path: str | os.PathLike[str]) -> dict[str, dict[str, str]]:
    """Return the lemmas in a CoNLL-U file, `{part of speech: {form: lemma}}`, for `Lemmatizer(table=...)`.

    The lemma of a form with a part of speech (UPOS) is the most frequent one, of equally frequent ones the first in the
    order of code points. Multiword tokens, empty nodes and words without a lemma are left out.

    Args:
        path: A file of Universal Dependencies; one whose name ends in `.gz` is decompressed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is not UTF-8, does not have 10 columns, or has an empty form; the message says which. Also
            if the file has no lemmas.

    Reference:
        Universal Dependencies, CoNLL-U format.
    """
    counts: collections.defaultdict[tuple[str, str], collections.Counter[str]]
    counts = collections.defaultdict(collections.Counter)
    for number, line in enumerate(text_lines(pathlib.Path(path)), start=1):
        if not line.strip() or line.startswith(b"#"):
            continue
        form, lemma, tag = _word(line, f"{str(path)!r}, line {number}")
        if tag != "_" and (lemma != "_" or form == "_"):
            counts[tag, form][lemma] += 1
    if not counts:
        raise ValueError(f"{str(path)!r} has no words with lemmas and parts of speech. Expected a CoNLL-U file.")
    table: dict[str, dict[str, str]] = {}
    for (tag, form), lemmas in counts.items():
        table.setdefault(tag, {})[form] = min(lemmas, key=lambda lemma: (-lemmas[lemma], lemma))
    return table


def _word(line: bytes, place: str) -> tuple[str, str, str]:
    """Return the form, lemma and part of speech of a line; no part of speech if it is no word."""
    try:
        columns = line.decode().split("\t")
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is not UTF-8: {error}.") from error
    if len(columns) != _COLUMNS:
        raise ValueError(
            f"{place} has {len(columns)} columns, but CoNLL-U has {_COLUMNS}, with tabs between: {line!r}."
        )
    identifier, form, lemma, tag = columns[:4]
    if not (form and lemma and tag):
        raise ValueError(f"{place} has an empty form, lemma or part of speech: {line!r}. CoNLL-U writes `_`.")
    return form, lemma, tag if identifier.isdecimal() else "_"
