"""Vectors of a vocabulary's words from a file."""

import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import keras
import numpy as np

from kseq.numbers import flag, whole
from kseq.text.embeddings.fasttext_binary import FastTextBinary
from kseq.text.embeddings.published import PUBLISHED, fetched
from kseq.text.embeddings.text_vectors import TextVectors
from kseq.text.embeddings.vector_file import FORMATS, Report, detected_format
from kseq.text.embeddings.word2vec_binary import Word2VecBinary
from kseq.text.embeddings.word_vectors import WordVectors

READERS: dict[str, Callable[[Any], Any]] = {
    "glove": TextVectors,
    "word2vec": TextVectors,
    "word2vec_binary": Word2VecBinary,
    "fasttext": TextVectors,
    "fasttext_binary": FastTextBinary,
}
LARGE = 10_000_000  # bytes of a file whose reading takes seconds
RULES = "normal", "mean", "zeros"


def load_embeddings(
    source: str | os.PathLike[str],
    vocabulary: Any,
    *,
    format: Literal["glove", "word2vec", "word2vec_binary", "fasttext", "fasttext_binary"] | None = None,
    lower_case: bool = False,
    unknown: Literal["normal", "mean", "zeros"] = "normal",
    seed: int | None = 0,
    verbose: bool | None = None,
) -> WordVectors:
    """Return the vectors of a vocabulary's words from a file, which is read without holding it in memory.

    Args:
        source: A file of GloVe, word2vec (text or binary) or fastText (`.vec` or `.bin`), text and binary word2vec also
            packed by gzip; or the name of published vectors: "glove.6B.50d", "glove.6B.100d", "glove.6B.200d",
            "glove.6B.300d", "glove.42B.300d", "glove.840B.300d", "glove.twitter.27B.25d" and its 50d, 100d and 200d,
            which are fetched once.
        vocabulary: A tokenizer of words, a `kseq.text.Vocabulary`, or a list of words in the order of their ids.
        format: The format of the file. None: it is detected.
        lower_case: Whether a word that the file lacks gets the vector of its lower-case form.
        unknown: The rows of words that the file lacks: "normal", drawn from the normal distribution with the mean and
            the standard deviation of the others in each dimension; their "mean"; or "zeros". The row of the padding
            token is zero, and the other special tokens are such words. fastText's `.bin` files lack only words without
            an n-gram.
        seed: Seed of "normal", at least 0; None for different rows each time.
        verbose: Whether to show a progress bar. None: for files of more than 10 MB.

    Returns:
        The `WordVectors`: `matrix` float32 `(words, dim)`, `coverage`, `missing`, `embedding()`, `nearest(word)`.

    Raises:
        FileNotFoundError: If `source` is no file and no name of published vectors.
        ConnectionError: If published vectors cannot be fetched.
        ValueError: If the file is damaged, with the line or the word; an option is unknown; or no word has a vector.

    Example:
        >>> vectors = kseq.text.load_embeddings("glove.6B.100d.txt", tokenizer)
        >>> f"{vectors.coverage:.0%} of {len(vectors.words)} words"
        '93% of 8312 words'
        >>> vectors.assign_to(model.encoder.embedding)
    """
    if unknown not in RULES:
        raise ValueError(f"unknown={unknown!r}, but it must be one of {', '.join(map(repr, RULES))}.")
    if format is not None and format not in FORMATS:
        raise ValueError(f"format={format!r}, but it must be None or one of {', '.join(map(repr, FORMATS))}.")
    seed = None if seed is None else whole("seed", seed)
    if seed is not None and seed < 0:
        raise ValueError(f"seed={seed} must not be negative.")
    words, special, padding = _words_of(vocabulary)
    path = _path_of(source)
    file = READERS[detected_format(path) if format is None else format](path)
    places = _places(words, special, flag("lower_case", lower_case))
    matrix, found = np.zeros((len(words), file.dim), "float32"), np.zeros(len(words), bool)
    exact = np.zeros(len(words), bool)
    for written, vector in file.vectors(frozenset(places), _progress(path, verbose)):
        for place in places[written]:
            is_exact = words[place].encode("utf-8", "surrogatepass") == written
            if not exact[place]:
                matrix[place], found[place], exact[place] = vector, True, is_exact
    if not found.any():
        raise ValueError(
            f"{path} has none of the {len(words)} words of the vocabulary, such as {list(words[-5:])}. "
            "Are the words of the file in lower case, or of another language?"
        )
    _fill(matrix, found, unknown, np.random.default_rng(seed))
    if padding is not None:
        matrix[padding] = 0.0
    matrix.flags.writeable = False  # so that `WordVectors` need not copy it
    return WordVectors(words, matrix, found)


def _words_of(vocabulary: Any) -> tuple[Sequence[str], set[int], int | None]:
    """Return the words in the order of their ids, the ids of special tokens, and that of the padding."""
    vocabulary = getattr(vocabulary, "vocabulary", vocabulary)
    if hasattr(vocabulary, "special_tokens"):
        special = vocabulary.special_tokens
        return vocabulary.strings, {special.pad_id, special.unk_id, special.bos_id, special.eos_id}, special.pad_id
    words = tuple(vocabulary) if isinstance(vocabulary, Iterable) else ()
    if (
        isinstance(vocabulary, str)
        or not isinstance(vocabulary, Iterable)
        or not all(isinstance(w, str) for w in words)
    ):
        raise TypeError(f"vocabulary={vocabulary!r}, but expected a tokenizer, a Vocabulary, or a list of words.")
    return words, set(), None


def _path_of(source: str | os.PathLike[str]) -> pathlib.Path:
    path = pathlib.Path(source)
    if path.is_file():
        return path
    if str(source) in PUBLISHED:
        return fetched(str(source))
    raise FileNotFoundError(f"{source} is no file, and not one of the published vectors {', '.join(PUBLISHED)}.")


def _progress(path: pathlib.Path, verbose: bool | None) -> Report | None:
    """Return what shows how much of a file has been read, or None."""
    size = path.stat().st_size
    shown = size > LARGE if verbose is None else flag("verbose", verbose)
    return keras.utils.Progbar(size, unit_name="byte").add if shown else None


def _places(words: Sequence[str], special: set[int], lower_case: bool) -> dict[bytes, list[int]]:
    """Return the ids of the words that get the vector of each word of a file."""
    places: dict[bytes, list[int]] = {}
    for place, word in enumerate(words):
        forms = [] if place in special else [word, word.lower()] if lower_case else [word]
        for form in dict.fromkeys(forms):
            places.setdefault(form.encode("utf-8", "surrogatepass"), []).append(place)
    return places


def _fill(matrix: np.ndarray, found: np.ndarray, unknown: str, random: np.random.Generator) -> None:
    """Fill the rows of the words that were not found, in place."""
    known = matrix[found]
    if unknown == "mean":
        matrix[~found] = known.mean(axis=0)
    elif unknown == "normal":
        matrix[~found] = random.normal(known.mean(axis=0), known.std(axis=0), matrix[~found].shape)
