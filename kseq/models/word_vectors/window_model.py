"""The base class of models that learn word vectors from windows: inputs, noise words, vectors of characters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.ids import check_ids, integers, known_integers, with_nan
from kseq.inner_layers import freeze_inner_layers
from kseq.layers import CharNGramEmbedding
from kseq.models.export_contract import StepInputs
from kseq.models.word_vectors.word_model import WordModel
from kseq.models.word_vectors.word_serving import checked_tokenizer, inputs_of_words
from kseq.numbers import real

MOST_WORDS = 1024  # whose vectors are made at once of their characters


class Windows(NamedTuple):
    """Pieces of text with the windows of their centres, and noise words.

    Attributes:
        words: int32 `(batch, time + 2 * margin)`, safe to look up.
        centres: int32 `(batch, time)`, the words without the margins.
        inside: float32 `(batch, time, time + 2 * margin)`, 1 where a word is in a centre's window, without the centre.
        noise: int32 `(batch, noise)`, safe to look up.
        valid: bool `(batch,)`, False in rows with an id outside the vocabulary or a window beyond the margins.
    """

    words: Tensor
    centres: Tensor
    inside: Tensor
    noise: Tensor
    valid: Tensor


class WindowModel(WordModel):
    """A `WordModel` that learns to tell the neighbours of a word from noise words, by products of two vectors.

    Each word has an input vector, which is the result, and an output vector. A subclass defines `centre_losses`.

    Args:
        vocabulary_size: Number of word ids.
        dim: Size of a vector.
        negatives: Number of noise words that weigh as much as one neighbour does.
        subwords: None: each word has an input vector of its own. A `kseq.layers.CharNGramEmbedding`, of this `dim`: the
            input vector is made of the word's characters, so that unseen and misspelt words have one, too. Both
            tokenizers are then required.
        source_tokenizer: See `WordModel`.
        character_tokenizer: With `subwords`, the tokenizer of the characters of words, saved with the model.
        **kwargs: Arguments of `keras.Model`.

    Raises:
        ValueError: If a number is not positive, or a tokenizer or `subwords` does not fit.
    """

    names = ("words", "before", "after", "noise")
    axes = 2
    maker = "context_windows"
    parts = ("source_tokenizer", "character_tokenizer", "subwords")

    def __init__(
        self,
        vocabulary_size: int,
        dim: int = 100,
        *,
        negatives: float = 5,
        subwords: Any = None,
        source_tokenizer: Any = None,
        character_tokenizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(vocabulary_size, dim, source_tokenizer=source_tokenizer, **kwargs)
        self.negatives = real("negatives", negatives)
        if self.negatives <= 0:
            raise ValueError(f"negatives={negatives} must be more than 0.")
        self.subwords = subwords
        self.character_tokenizer = checked_tokenizer("character_tokenizer", character_tokenizer)
        self._check_subwords()
        self.output_embedding = keras.layers.Embedding(
            self.vocabulary_size, self.dim, embeddings_initializer="zeros", dtype=self.dtype_policy
        )
        if subwords is not None:
            characters, lengths = self._spelled(source_tokenizer.vocabulary.strings)
            lengths = np.where(np.isin(np.arange(len(lengths)), source_tokenizer.special_tokens.ids), 0, lengths)
            # In a tuple, which Keras does not wrap: the characters of all ids, and their numbers, 0 for special ids
            self.spelling = (characters, lengths)
        freeze_inner_layers(self)

    def _check_subwords(self) -> None:
        if self.subwords is None:
            if self.character_tokenizer is not None:
                raise ValueError("character_tokenizer is for subwords, but there are none. Leave it out.")
            return
        if self.source_tokenizer is None or self.character_tokenizer is None:
            raise ValueError("subwords needs both source_tokenizer and character_tokenizer, for the characters.")
        if not isinstance(self.subwords, CharNGramEmbedding):
            raise TypeError(f"subwords must be a kseq.layers.CharNGramEmbedding, but is {self.subwords!r}.")
        if self.subwords.dim != self.dim:
            raise ValueError(f"The vectors of subwords have size {self.subwords.dim}, but dim={self.dim}.")
        if self.subwords.vocabulary_size != self.character_tokenizer.vocabulary_size:
            raise ValueError(
                f"subwords reads {self.subwords.vocabulary_size} characters, but character_tokenizer has "
                f"{self.character_tokenizer.vocabulary_size} ids. Give both the same number."
            )

    def build(self, inputs_shape: Any = None) -> None:
        """Create the weights; their shapes do not depend on `inputs_shape`."""
        if not self.output_embedding.built:
            self.output_embedding.build()
        if self.subwords is None:
            super().build()
            return
        if not self.subwords.built:
            self.subwords.build()
        # What an exported model compares a word with: making all words of characters takes too long for a request.
        shape = (self.vocabulary_size, self.dim)
        self.known = self.add_weight(name="known", shape=shape, initializer="zeros", trainable=False)

    def compile(self, optimizer: Any = None, loss: Any = None, **kwargs: Any) -> None:
        """Configure the training, see `WordModel.compile`; `optimizer` is `Adam(0.003)` unless given."""
        super().compile(keras.optimizers.Adam(0.003) if optimizer is None else optimizer, loss, **kwargs)

    def call(self, inputs: Mapping[str, Tensor], training: bool | None = None) -> Tensor:
        """Return the loss of each piece, float32 `(batch,)`: the sum over the pairs of its centres."""
        windows = self.windows(inputs)
        return with_nan(ops.sum(self.centre_losses(windows, training), axis=-1), windows.valid)

    def centre_losses(self, windows: Windows, training: bool | None) -> Tensor:
        """Return the loss of each centre, float32 `(batch, time)`, 0 for one without neighbours."""
        raise NotImplementedError(f"{type(self).__name__} must define centre_losses(windows, training).")

    def loss_weight(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the number of centres with neighbours."""
        return ops.sum(ops.cast(ops.add(inputs["before"], inputs["after"]) > 0, "int32"))

    def windows(self, inputs: Mapping[str, Tensor]) -> Windows:
        """Return the windows of a batch.

        Raises:
            ValueError: If an input is missing, or its dtype or shape is wrong.
        """
        self.check_axes(inputs)
        words, before, after, noise = (integers(inputs[name], name) for name in self.names)
        margin, odd = divmod(words.shape[1] - before.shape[1], 2)
        if tuple(before.shape) != tuple(after.shape) or odd or margin < 0:
            raise ValueError(
                f"words, before and after have shapes {tuple(words.shape)}, {tuple(before.shape)} and "
                f"{tuple(after.shape)}, but expected (batch, time + 2 * window), (batch, time) and (batch, time)."
            )
        safe_words, safe_noise = (ops.clip(ids, 0, self.vocabulary_size - 1) for ids in (words, noise))
        valid = ops.logical_and(ops.all(safe_words == words, axis=1), ops.all(safe_noise == noise, axis=1))
        for reach in (before, after):
            fits = ops.logical_and(reach >= 0, reach <= margin)
            valid = ops.logical_and(valid, ops.all(fits, axis=1))
        time, width = before.shape[1], words.shape[1]
        distance = ops.arange(width, dtype="int32") - (ops.arange(time, dtype="int32")[:, None] + margin)
        inside = ops.logical_and(distance >= -before[..., None], distance <= after[..., None])
        inside = ops.cast(ops.logical_and(inside, distance != 0), "float32")  # (batch, time, width)
        return Windows(safe_words, safe_words[:, margin : margin + time], inside, safe_noise, valid)

    def products(self, vectors: Tensor, ids: Tensor) -> Tensor:
        """Return the products of vectors `(batch, time, dim)` with the output vectors of words `(batch, n)`.

        Returns:
            float32 `(batch, time, n)`.
        """
        return ops.cast(ops.matmul(vectors, ops.swapaxes(self.output_embedding(ids), 1, 2)), "float32")

    def input_vectors(self, ids: Tensor, training: bool | None = None) -> Tensor:
        """Return the input vectors of words, float `(batch, time, dim)`."""
        if self.subwords is None:
            return self.embedding(ids)
        characters, lengths = (ops.convert_to_tensor(each) for each in self.spelling)
        return self.subwords(ops.take(characters, ids, axis=0), ops.take(lengths, ids, axis=0), training=training)

    def _spelled(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        return tuple(each.numpy() for each in self.character_tokenizer(list(words)))

    def matrix(self) -> Tensor:
        """Return the input vectors of all ids, float `(vocabulary_size, dim)`."""
        return super().matrix() if self.subwords is None else self._of_characters(*self.spelling)

    def _of_characters(self, characters: np.ndarray, lengths: np.ndarray) -> Tensor:
        starts = range(0, len(lengths), MOST_WORDS)
        parts = [(characters[None, at : at + MOST_WORDS], lengths[None, at : at + MOST_WORDS]) for at in starts]
        return ops.concatenate([self.subwords(*part)[0] for part in parts])

    def vectors_for(self, words: Sequence[str], known: np.ndarray) -> np.ndarray:
        """Return the vectors of a vocabulary's words; with `subwords`, of any words."""
        if self.subwords is None or not len(words):
            return super().vectors_for(words, known)
        characters, lengths = self._spelled(words)
        return ops.convert_to_numpy(self._of_characters(characters, np.where(known, lengths, 0)))

    def in_requests(self, special: Sequence[int] = ()) -> dict[str, StepInputs]:
        """Return the inputs of the exported model; `special` are the ids that are no words."""
        characters = None if self.subwords is None else self.subwords.vocabulary_size
        return inputs_of_words(self.vocabulary_size, special, characters)

    def prepare_serving(self) -> Callable[[], Tensor]:
        """Return a function that returns the vectors of all ids, float `(vocabulary_size, dim)`, in a graph."""
        if self.subwords is None:
            return super().prepare_serving()
        self.known.assign(self.matrix())
        return lambda: ops.convert_to_tensor(self.known)

    def vectors_of(self, inputs: Mapping[str, Tensor], is_word: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return the vectors of the words of requests, and which words have one; with `subwords`, all do."""
        if self.subwords is None:
            return super().vectors_of(inputs, is_word)
        vectors = self.subwords(inputs["characters"], inputs["characters_lengths"])
        return vectors, inputs["characters_lengths"] > 0

    def serving_defaults(self) -> dict[str, Any]:
        """Return the tokenizers and names with which the model is exported if the call gives none."""
        defaults = super().serving_defaults()
        if self.subwords is not None:
            defaults["source"] = {"tokens": self.source_tokenizer, "characters": self.character_tokenizer}
        return defaults

    def check_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Raise ValueError if arrays have an id outside the vocabulary, or a window beyond the margins of the words."""
        super().check_inputs(inputs)
        margin = (np.shape(inputs["words"])[1] - np.shape(inputs["before"])[1]) // 2
        for name in self.names:
            known = known_integers(inputs[name], name)
            if known is None:
                continue
            if name in ("words", "noise"):
                check_ids(known, self.vocabulary_size, name)
            elif ((known < 0) | (known > margin)).any():
                place = tuple(np.argwhere((known < 0) | (known > margin))[0].tolist())
                raise ValueError(f"{name}{list(place)} = {known[place]}, but a window has 0 to {margin} words.")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "negatives": self.negatives,
            "subwords": keras.saving.serialize_keras_object(self.subwords),
            "character_tokenizer": keras.saving.serialize_keras_object(self.character_tokenizer),
        }
