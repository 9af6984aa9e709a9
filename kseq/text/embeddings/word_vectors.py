"""Vectors of the words of a vocabulary."""

from collections.abc import Iterable, Sequence
from typing import Any, Self

import keras
import numpy as np

from kseq.numbers import positive_int

Words = str | Sequence[float] | np.ndarray


class WordVectors:
    """The vectors of the words of a vocabulary, in the order of their ids.

    Args:
        words: The words, all different.
        matrix: Float `(words, dim)`.
        found: Which words have a vector of their own, bool `(words,)`; the others' rows were filled by a rule. None:
            all. Only those that have one are neighbours of others.

    Attributes:
        words: The words, a tuple of str.
        matrix: float32 `(words, dim)`.
        found: bool `(words,)`.

    Raises:
        ValueError: If the sizes do not fit, or a word is repeated.

    Example:
        >>> vectors = WordVectors(["king", "queen", "man", "woman"], [[1, 1], [1, -1], [0.1, 1], [0.1, -1]])
        >>> vectors.analogy("man", "king", "woman", count=1)[0][0]
        'queen'
    """

    def __init__(self, words: Iterable[str], matrix: Any, found: Any = None):
        self.words = tuple(words)
        self.matrix = np.asarray(matrix, "float32")
        self.found = np.ones(len(self.words), bool) if found is None else np.asarray(found, bool)
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
        """Return the vector of a word, float32 `(dim,)`.

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
        """
        return self._nearest(self._vector(word), count, {word} if isinstance(word, str) else set())

    def analogy(self, first: str, second: str, third: str, count: int = 10) -> list[tuple[str, float]]:
        """Return the words that are to `third` what `second` is to `first`: "man", "king", "woman" gives "queen".

        They are the neighbours of the sum of the directions `second - first + third`, without these three words.

        Reference: T. Mikolov et al., "Linguistic regularities in continuous space word representations", 2013.
        """
        directions = [self._directions[self._place(word)] for word in (first, second, third)]
        return self._nearest(directions[1] - directions[0] + directions[2], count, {first, second, third})

    def nearest_in(self, other: "WordVectors", word: Words, count: int = 10) -> list[tuple[str, float]]:
        """Return the words of another vocabulary with the most similar vectors, if both are in one space.

        Aligned vectors of two languages give translations.
        """
        if other.dim != self.dim:
            raise ValueError(f"The vectors have sizes {self.dim} and {other.dim}, so they are not in one space.")
        return other._nearest(self._vector(word), count, set())

    def text_vector(self, words: Iterable[str]) -> np.ndarray:
        """Return the sum of the vectors of a text's words, float32 `(dim,)`; words without one of their own count 0."""
        known = [self._places[word] for word in words if word in self]
        return self.matrix[known].sum(axis=0)

    def _place(self, word: str) -> int:
        self[word]  # raises KeyError
        return self._places[word]

    def _vector(self, word: Words) -> np.ndarray:
        vector = self[word] if isinstance(word, str) else np.asarray(word, "float32")
        if vector.shape != (self.dim,):
            raise ValueError(f"The vector has shape {vector.shape}, but expected ({self.dim},).")
        return vector

    def _nearest(self, vector: np.ndarray, count: int, without: set) -> list[tuple[str, float]]:
        count = positive_int(self, "count", count)
        similarities = self._directions @ (vector / (np.linalg.norm(vector) or 1.0))
        similarities[~self.found] = -np.inf
        similarities[[self._places[word] for word in without if word in self._places]] = -np.inf
        order = np.argsort(-similarities, kind="stable")[:count]
        return [(self.words[place], float(similarities[place])) for place in order if similarities[place] > -np.inf]
