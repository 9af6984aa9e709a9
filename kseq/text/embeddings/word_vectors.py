"""Vectors of the words of a vocabulary."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import keras
import numpy as np

from kseq.numbers import positive_int

Words = str | Sequence[float] | np.ndarray
COMBINATIONS = "sum", "mean"


class SimilarityScore(NamedTuple):
    """How well vectors agree with similarities of words that people judged.

    Attributes:
        correlation: Spearman's rank correlation of the judgements with the cosine similarities.
        coverage: Share of the pairs whose words both have a vector of their own.
    """

    correlation: float
    coverage: float


class WordVectors:
    """The vectors of the words of a vocabulary, in the order of their ids.

    Args:
        words: The words, all different.
        matrix: Float `(words, dim)`.
        found: Which words have a vector of their own, bool `(words,)`; the others' rows were filled by a rule. None:
            all. Only those that have one are neighbours of others, or have neighbours.

    Attributes:
        words: The words, a tuple of str.
        matrix: float32 `(words, dim)`; a copy that cannot be written to.
        found: bool `(words,)`; cannot be written to either.

    Raises:
        ValueError: If the sizes do not fit, or a word is repeated.

    Example:
        >>> vectors = WordVectors(["king", "queen", "man", "woman"], [[1, 1], [1, -1], [0.1, 1], [0.1, -1]])
        >>> vectors.analogy("man", "king", "woman", count=1)[0][0]
        'queen'
    """

    def __init__(self, words: Iterable[str], matrix: Any, found: Any = None):
        self.words = tuple(words)
        self.matrix = _fixed(matrix, "float32")
        self.found = _fixed(np.ones(len(self.words)) if found is None else found, "bool")
        if self.matrix.ndim != 2 or len(self.matrix) != len(self.words) or self.found.shape != (len(self.words),):
            raise ValueError(
                f"There are {len(self.words)} words, but the matrix has shape {self.matrix.shape} and found has shape "
                f"{self.found.shape}. Expected (words, dim) and (words,)."
            )
        self._places = {word: place for place, word in enumerate(self.words)}
        if len(self._places) != len(self.words):
            repeated = next(word for place, word in enumerate(self.words) if self._places[word] != place)
            raise ValueError(f"The word {repeated!r} is repeated. Give each word once.")
        lengths = np.linalg.norm(self.matrix, axis=1, keepdims=True)
        self._directions = self.matrix / np.where(lengths > 0, lengths, 1.0)

    @property
    def dim(self) -> int:
        """Size of the vectors."""
        return self.matrix.shape[1]

    @property
    def coverage(self) -> float:
        """Share of the words that have a vector of their own."""
        return float(self.found.mean()) if len(self.found) else 0.0

    @property
    def missing(self) -> tuple[str, ...]:
        """The words that have no vector of their own."""
        return tuple(word for word, found in zip(self.words, self.found, strict=True) if not found)

    def embedding(self, *, trainable: bool = True, **kwargs: Any) -> keras.layers.Embedding:
        """Return an embedding layer with these vectors, for ids of this vocabulary.

        Args:
            trainable: Whether training changes the vectors.
            **kwargs: Arguments of `keras.layers.Embedding`.
        """
        layer = keras.layers.Embedding(len(self.words), self.dim, trainable=trainable, **kwargs)
        self.assign_to(layer)
        return layer

    def assign_to(self, layer: keras.layers.Embedding) -> Self:
        """Give an embedding layer these vectors, such as `encoder.embedding` of a model's encoder.

        Raises:
            ValueError: If the layer has another number of ids, or vectors of another size.
        """
        expected = (layer.input_dim, layer.output_dim)
        if expected != self.matrix.shape:
            raise ValueError(
                f"The layer {layer.name!r} has {expected[0]} ids with vectors of size {expected[1]}, but these are "
                f"{len(self.words)} vectors of size {self.dim}."
            )
        if not layer.built:
            layer.build((None, None))
        layer.embeddings.assign(self.matrix)
        return self

    def __contains__(self, word: object) -> bool:
        """Return whether a word has a vector of its own."""
        place = self._places.get(word) if isinstance(word, str) else None
        return place is not None and bool(self.found[place])

    def __getitem__(self, word: str) -> np.ndarray:
        """Return the vector of a word, float32 `(dim,)`; of a word without one of its own, the row filled by a rule.

        Raises:
            KeyError: If the word is not in the vocabulary.
        """
        if word not in self._places:
            raise KeyError(f"{word!r} is not one of the {len(self.words)} words of the vocabulary.")
        return self.matrix[self._places[word]]

    def nearest(self, word: Words, count: int = 10) -> list[tuple[str, float]]:
        """Return the words with the most similar vectors, and their cosine similarity, most similar first.

        Args:
            word: A word, which is not its own neighbour, or a vector `(dim,)`.
            count: Number of neighbours.

        Raises:
            KeyError: If the word has no vector of its own.
            ValueError: If the vector has another size, or NaN.
        """
        return self._nearest(self._vector(word), count, {word} if isinstance(word, str) else set())

    def analogy(self, first: str, second: str, third: str, count: int = 10) -> list[tuple[str, float]]:
        """Return the words that are to `third` what `second` is to `first`: "man", "king", "woman" gives "queen".

        They are the neighbours of the sum of the directions `second - first + third`, without these three words.

        Raises:
            KeyError: If one of the words has no vector of its own.

        Reference: T. Mikolov et al., "Linguistic regularities in continuous space word representations", 2013.
        """
        directions = [self._directions[self._place(word)] for word in (first, second, third)]
        return self._nearest(directions[1] - directions[0] + directions[2], count, {first, second, third})

    def nearest_in(self, other: "WordVectors", word: Words, count: int = 10) -> list[tuple[str, float]]:
        """Return the words of another vocabulary with the most similar vectors, if both are in one space.

        Aligned vectors of two languages give translations.

        Raises:
            KeyError: If the word has no vector of its own.
            ValueError: If the vectors have different sizes.
        """
        if other.dim != self.dim:
            raise ValueError(f"The vectors have sizes {self.dim} and {other.dim}, so they are not in one space.")
        return other._nearest(self._vector(word), count, set())

    def align(self, other: "WordVectors", pairs: Mapping[str, str] | Iterable[tuple[str, str]]) -> "WordVectors":
        """Return these vectors turned into the space of another vocabulary's, for `nearest_in`.

        They are turned by the rotation or reflection that brings the directions of the pairs' words nearest to each
        other, which leaves the similarities of these words among each other as they are.

        Args:
            other: The vectors of the other vocabulary, of the same size.
            pairs: Words that correspond, such as translations: pairs or a dict from words of this vocabulary to words
                of the other one.

        Raises:
            KeyError: If a word is not in its vocabulary, or has no vector of its own.
            TypeError: If a pair is not two words.
            ValueError: If there is no pair, or the vectors have different sizes.

        Example:
            >>> aligned = english.align(german, [("dog", "Hund"), ("house", "Haus"), ...])
            >>> aligned.nearest_in(german, "cat", 1)
            [('Katze', 0.71)]

        Reference: S. Smith, D. Turban, S. Hamblin, N. Hammerla, "Offline bilingual word vectors, orthogonal
        transformations and the inverted softmax", 2017.
        """
        pairs = [_pair(pair) for pair in (pairs.items() if isinstance(pairs, Mapping) else pairs)]
        if other.dim != self.dim or not pairs:
            raise ValueError(
                f"There are {len(pairs)} pairs, and the vectors have sizes {self.dim} and {other.dim}. Give pairs of "
                "words, and vectors of one size."
            )
        own = self._directions[[self._place(first) for first, _ in pairs]]
        others = other._directions[[other._place(second) for _, second in pairs]]
        left, _, right = np.linalg.svd(own.T.astype("float64") @ others)
        return WordVectors(self.words, self.matrix @ (left @ right), self.found)

    def text_vector(self, words: Iterable[str | bytes], combine: Literal["sum", "mean"] = "sum") -> np.ndarray:
        """Return the sum or the mean of the vectors of a text's words, float32 `(dim,)`.

        Words without a vector of their own are left out; a text without others has zeros.

        Args:
            words: The words, each a str or UTF-8 bytes: a list, an array, or a string tensor `(words,)`.
            combine: "sum" or "mean".

        Raises:
            TypeError: If `words` is a single text, or contains something else than words.
            ValueError: If `combine` is neither "sum" nor "mean".
        """
        if combine not in COMBINATIONS:
            raise ValueError(f"combine={combine!r}, but it must be one of {', '.join(map(repr, COMBINATIONS))}.")
        known = [self._places[word] for word in _texts_of(words) if word in self]
        total = self.matrix[known].sum(axis=0)
        return total / max(len(known), 1) if combine == "mean" else total

    def score_similarity(self, judged: Iterable[tuple[str, str, float]]) -> SimilarityScore:
        """Return how well the vectors agree with similarities that people judged, such as those of WordSim-353.

        Args:
            judged: Two words and their similarity, a finite number of any scale. Pairs with a word that has no vector
                of its own are left out, and lower the coverage.

        Raises:
            ValueError: If a similarity is NaN or infinite, fewer than two pairs are left, or all have one similarity.
        """
        judged = list(judged)
        for first, second, number in judged:
            if not math.isfinite(float(number)):
                raise ValueError(f"The similarity of {first!r} and {second!r} is {number}. Leave such pairs out.")
        known = [pair for pair in judged if pair[0] in self and pair[1] in self]
        places = np.array([[self._places[word] for word in pair[:2]] for pair in known], int).reshape(-1, 2)
        own = _ranks((self._directions[places[:, 0]] * self._directions[places[:, 1]]).sum(axis=1))
        theirs = _ranks(np.array([number for _, _, number in known], float))
        if len(known) < 2 or not np.ptp(own) or not np.ptp(theirs):
            raise ValueError(
                f"Of {len(judged)} pairs, {len(known)} have vectors, but at least two with different similarities are "
                "needed. Are the words those of the vocabulary, in lower case?"
            )
        return SimilarityScore(float(np.corrcoef(own, theirs)[0, 1]), len(known) / len(judged))

    def _place(self, word: str) -> int:
        self[word]  # raises KeyError
        place = self._places[word]
        if not self.found[place]:
            raise KeyError(
                f"{word!r} has no vector of its own: its row was filled by a rule. Leave out the words for which "
                "`word in vectors` is False."
            )
        return place

    def _vector(self, word: Words) -> np.ndarray:
        vector = self.matrix[self._place(word)] if isinstance(word, str) else np.asarray(word, "float32")
        if vector.shape != (self.dim,):
            raise ValueError(f"The vector has shape {vector.shape}, but expected ({self.dim},).")
        if not np.isfinite(vector).all():
            raise ValueError("The vector has NaN or infinity, so no word is near to it.")
        return vector

    def _nearest(self, vector: np.ndarray, count: int, without: set) -> list[tuple[str, float]]:
        count = positive_int(self, "count", count)
        similarities = self._directions @ (vector / (np.linalg.norm(vector) or 1.0))
        similarities[~self.found] = -np.inf
        similarities[[self._places[word] for word in without if word in self._places]] = -np.inf
        order = np.argsort(-similarities, kind="stable")[:count]
        return [(self.words[place], float(similarities[place])) for place in order if similarities[place] > -np.inf]


def _fixed(values: Any, dtype: str) -> np.ndarray:
    """Return an array that cannot be written to: a copy, unless `values` is one that owns its memory."""
    is_fixed = isinstance(values, np.ndarray) and values.base is None and not values.flags.writeable
    array = np.asarray(values, dtype) if is_fixed else np.array(values, dtype)
    array.flags.writeable = False
    return array


def _pair(pair: Any) -> tuple[str, str]:
    words = () if isinstance(pair, str | bytes) or not isinstance(pair, Iterable) else tuple(pair)
    if len(words) != 2 or not all(isinstance(word, str) for word in words):
        raise TypeError(f"One of the pairs is {pair!r}, but expected two words, such as ('dog', 'Hund').")
    return words


def _texts_of(words: Any) -> Iterable[str]:
    """Yield words as str."""
    words = words.numpy() if hasattr(words, "numpy") else words
    if isinstance(words, str | bytes) or not isinstance(words, Iterable) or getattr(words, "ndim", 1) != 1:
        raise TypeError(
            f"words={words!r}, but expected the words of one text. Split it first, such as by text.split()."
        )
    for place, word in enumerate(words):
        if not isinstance(word, str | bytes):
            raise TypeError(f"words[{place}] is {word!r}, but expected a word, str or bytes.")
        yield word.decode("utf-8", "replace") if isinstance(word, bytes) else word


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks of numbers; equal numbers have the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
