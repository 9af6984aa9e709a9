"""The base class of tokenizers whose vocabulary is trained by a library: subwords."""

import abc
from typing import Any, ClassVar, Self

import tensorflow as tf

from kseq.text.offsets import Offsets, original_places
from kseq.text.tokenizer import Tokenizer


class SubwordTokenizer(Tokenizer):
    """Splits words into the pieces of a trained model, in the graph; the ids are those of the model.

    A special token that the model lacks gets an id after those of the model. Special tokens are never read in a text:
    their strings are split as any other text.

    A subclass defines `encode_with_places`, and `surfaces` in its constructor.
    """

    separator: ClassVar[str] = ""
    surfaces: tf.Tensor
    """What `detokenize` writes for each id, string `(vocabulary_size,)`."""

    @abc.abstractmethod
    def encode_with_places(self, text: tf.Tensor) -> tuple[tf.RaggedTensor, Offsets]:
        """Return the ids of the tokens of `text`, already normalised, and their places in it, in bytes."""

    def encode(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Return the ids, ragged int32 `(batch, (tokens))`, of `text`, string `(batch,)`, already normalised."""
        return self.encode_with_places(text)[0]

    def split(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Return the pieces of `text`, already normalised, as the vocabulary spells them; unknown ones as in `text`."""
        ids, places = self.encode_with_places(text)
        known = self.vocabulary.tokens(ids)
        written = _slices(text, places)
        return known.with_flat_values(tf.where(ids.flat_values == self.unk_id, written.flat_values, known.flat_values))

    def strings(self, text: Any, *, normalized: bool = True) -> tf.Tensor:
        """Return the tokens of `text` as strings `(batch, time)`, at the positions of their ids in `tokenizer(text)`.

        Begin, end and padding are empty.

        Args:
            text: string `(batch,)`.
            normalized: Whether the tokens are pieces as the vocabulary spells them, or what they are in `text`, see
                `offsets`.
        """
        if normalized:
            return super().strings(text)
        text = tf.convert_to_tensor(text, tf.string)
        return self._in_rows(_slices(text, self.locate(text)))

    def locate(self, text: tf.Tensor) -> Offsets:
        """Return the places of the tokens in `text`, string `(batch,)`, as it is written.

        They are right if the normalizer keeps the number of characters, as a change of case does.
        """
        read = self.normalize(text)
        _, places = self.encode_with_places(read)
        return Offsets(*(original_places(of, read, text) for of in places))

    def spell(self, ids: tf.Tensor) -> tf.Tensor:
        """Return what `detokenize` writes for each of `ids`, int64 of any shape."""
        inside = (ids >= 0) & (ids < self.vocabulary_size)
        return tf.gather(self.surfaces, tf.where(inside, ids, self.unk_id))

    def adapt(self, texts: Any, *, min_count: int = 1, max_size: int | None = None) -> Self:
        """Raise an error: a vocabulary of subwords is trained by `train`."""
        name = type(self).__name__
        raise NotImplementedError(
            f"The vocabulary of a {name} is trained by a library: {name}.train(texts, vocabulary_size=...)."
        )


def _slices(text: tf.Tensor, places: Offsets) -> tf.RaggedTensor:
    """Return the parts of `text`, string `(batch,)`, at `places`."""
    starts, ends = places
    of_token = tf.gather(text, starts.value_rowids())
    parts = tf.strings.substr(of_token, starts.flat_values, ends.flat_values - starts.flat_values)
    return starts.with_flat_values(parts)
