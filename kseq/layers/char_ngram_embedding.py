"""Word vectors that are sums of vectors of character n-grams."""

from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.inner_layers import freeze_inner_layers
from kseq.numbers import positive_int, share, whole
from kseq.short_help import ShortHelp

COMBINATIONS = "sum", "mean", "concat"
FNV_OFFSET, FNV_PRIME = 2166136261, 16777619  # of the 32-bit hash function FNV-1a


@keras.saving.register_keras_serializable(package="kseq")
class CharNGramEmbedding(keras.layers.Layer, metaclass=ShortHelp):
    """Vectors of words as sums over their character n-grams, so that unseen and misspelt words have vectors too.

    The n-grams are those of the word between two boundary characters, `<word>` as it were, of `min_length` to
    `max_length` characters. Each is hashed to one of `buckets` learned vectors, in the graph. Like a
    `kseq.models.CharacterEncoder` it can be the `characters` of an encoder, such as a `WordEncoder`.

    Args:
        vocabulary_size: Number of character ids.
        dim: Size of an n-gram's vector.
        min_length: Smallest number of characters of an n-gram; boundaries count.
        max_length: Largest number of characters of an n-gram.
        buckets: Number of vectors. Different n-grams may share one.
        combine: "sum" or "mean" over all n-grams; or "concat" for the sums over the n-grams of each length, one after
            the other.
        dropout: Share of the values of the words' vectors dropped in training.
        embeddings_initializer: Initializer of the vectors.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        characters: int `(batch, words, characters)`, ids in `[0, vocabulary_size)`.
        lengths: int `(batch, words)`, the number of real characters in each word. Padding never changes an answer.
        training: Whether dropout is on.

    Returns:
        Float `(batch, words, dim)`, for "concat" `(batch, words, dim * (max_length - min_length + 1))`; zeros for a
        word without characters, and where it has no n-gram.

    Raises:
        ValueError: If an option is out of range, or the inputs have wrong shapes.

    Attributes:
        vocabulary_size: Number of character ids.
        dim: Size of a word's vector. (That of an n-gram's is `ngram_dim`.)

    Example:
        >>> embedding = kseq.layers.CharNGramEmbedding(100, 32, buckets=10000)
        >>> embedding(np.ones((2, 7, 12), "int32"), np.full((2, 7), 12)).shape
        (2, 7, 32)

    Reference: P. Bojanowski et al., "Enriching word vectors with subword information", 2017.
    """

    def __init__(
        self,
        vocabulary_size: int,
        dim: int,
        *,
        min_length: int = 3,
        max_length: int = 6,
        buckets: int = 50_000,
        combine: Literal["sum", "mean", "concat"] = "sum",
        dropout: float = 0.0,
        embeddings_initializer: Any = "uniform",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size = positive_int(self, "vocabulary_size", vocabulary_size)
        self.ngram_dim, self.buckets = positive_int(self, "dim", dim), positive_int(self, "buckets", buckets)
        self.min_length, self.max_length = positive_int(self, "min_length", min_length), whole("max_length", max_length)
        if self.max_length < self.min_length:
            raise ValueError(f"max_length={max_length} is smaller than min_length={min_length}.")
        if combine not in COMBINATIONS:
            raise ValueError(f"combine={combine!r}, but it must be one of {', '.join(map(repr, COMBINATIONS))}.")
        self.combine, self.dropout = combine, share(self, "dropout", dropout)
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.word_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        freeze_inner_layers(self)

    @property
    def dim(self) -> int:
        """Size of a word's vector."""
        return self.ngram_dim * (self.max_length - self.min_length + 1 if self.combine == "concat" else 1)

    def build(self, characters_shape: tuple | None = None, lengths_shape: tuple | None = None) -> None:
        """Create the vectors; their shapes do not depend on the inputs' shapes."""
        shape = (self.buckets, self.ngram_dim)
        self.embeddings = self.add_weight(name="embeddings", shape=shape, initializer=self.embeddings_initializer)

    def call(self, characters: Tensor, lengths: Tensor, training: bool | None = None) -> Tensor:
        """Return each word's vector."""
        if len(characters.shape) != 3 or len(lengths.shape) != 2:
            raise ValueError(
                f"{type(self).__name__} reads characters (batch, words, characters) and lengths (batch, words), but "
                f"got shapes {tuple(characters.shape)} and {tuple(lengths.shape)}."
            )
        sums, counts = zip(*self._of_each_length(characters, ops.cast(lengths, "int32")), strict=True)
        vectors = ops.concatenate(sums, axis=-1) if self.combine == "concat" else ops.sum(ops.stack(sums), axis=0)
        if self.combine == "mean":
            count = ops.maximum(ops.sum(ops.stack(counts), axis=0), 1)
            vectors = vectors / ops.cast(count, vectors.dtype)[..., None]
        return self.word_dropout(vectors, training=training)

    def ngram_ids(self, characters: Tensor, lengths: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return for each length of n-grams `(ids, mask)`, `(batch, words, characters + 2)`: where n-grams begin."""
        text, width = self._with_boundaries(characters, lengths), ops.shape(characters)[-1] + 2
        places, ends = ops.arange(width, dtype="int32"), lengths[..., None] + 2
        hashed, found = ops.zeros_like(text) + _word(FNV_OFFSET), []
        for length in range(1, self.max_length + 1):
            following = ops.pad(text[..., length - 1 :], [(0, 0), (0, 0), (0, length - 1)])[..., :width]
            hashed = ops.multiply(ops.bitwise_xor(hashed, following), _word(FNV_PRIME))
            if length < self.min_length:
                continue
            mixed = ops.bitwise_xor(hashed, ops.right_shift(hashed, _word(15)))
            ids = ops.mod(ops.cast(ops.right_shift(mixed, _word(1)), "int32"), self.buckets)
            inside = ops.logical_and(places + length <= ends, lengths[..., None] > 0)
            if length == 1:  # a boundary alone says nothing
                inside = ops.logical_and(inside, ops.logical_and(places > 0, places < ends - 1))
            found.append((ids, inside))
        return found

    def _with_boundaries(self, characters: Tensor, lengths: Tensor) -> Tensor:
        """Return the characters' ids, uint32, between two ids that no character has."""
        text = ops.pad(ops.cast(characters, "int32"), [(0, 0), (0, 0), (1, 1)])
        places = ops.arange(ops.shape(text)[-1], dtype="int32")
        text = ops.where(places == 0, self.vocabulary_size, text)
        return ops.cast(ops.where(places == lengths[..., None] + 1, self.vocabulary_size + 1, text), "uint32")

    def _of_each_length(self, characters: Tensor, lengths: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return for each length of n-grams the sum of their vectors `(batch, words, dim)`, and their number."""
        results = []
        for ids, mask in self.ngram_ids(characters, lengths):
            vectors = ops.where(mask[..., None], ops.take(self.embeddings, ids, axis=0), 0)
            results.append((ops.sum(vectors, axis=2), ops.sum(ops.cast(mask, "int32"), axis=2)))
        return results

    def compute_output_shape(self, characters_shape: tuple, lengths_shape: Any = None) -> tuple:
        """Return the shape of the words' vectors."""
        return (*characters_shape[:2], self.dim)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "dim": self.ngram_dim,
            "min_length": self.min_length,
            "max_length": self.max_length,
            "buckets": self.buckets,
            "combine": self.combine,
            "dropout": self.dropout,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
        }


def _word(number: int) -> Tensor:
    return ops.convert_to_tensor(np.uint32(number))
