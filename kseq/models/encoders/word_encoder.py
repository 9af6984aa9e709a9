"""An encoder of words by their ids and their characters."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells import Cell
from kseq.inner_layers import freeze_inner_layers
from kseq.models.encoders.character_encoder import CharacterEncoder
from kseq.models.encoders.encoder import Encoded, Encoder
from kseq.numbers import whole


@keras.saving.register_keras_serializable(package="kseq")
class WordEncoder(Encoder):
    """An `Encoder` whose word embeddings are concatenated with character-based vectors of a `CharacterEncoder`.

    The characters distinguish words outside the vocabulary. `word_dropout` replaces some words by the unknown word in
    training, so that the model learns to use the characters.

    Args:
        vocabulary_size: Number of word ids.
        embedding_dim: Size of a word's embedding.
        cell: The recurrent cell, see `Encoder`.
        characters: The encoder of the characters.
        word_dropout: Share of the words whose id is replaced by `unk_id` in training; their characters stay.
        unk_id: Id of the unknown word.
        **kwargs: Other arguments of `Encoder`.

    Call arguments:
        tokens: int `(batch, words)`.
        lengths: int `(batch,)`, the number of real words in each row. Padding never changes an answer.
        characters: int `(batch, words, characters)`.
        character_lengths: int `(batch, words)`, the number of real characters in each word.
        training: Whether dropout is on.

    Returns:
        `Encoded(values (batch, words, dim), mask, states)`.

    Raises:
        ValueError: If `unk_id` is not in the vocabulary, or `word_dropout` is out of range.

    Example:
        >>> characters = kseq.models.CharacterEncoder(100, 32, kseq.cells.LSTMCell(48))
        >>> encoder = kseq.models.WordEncoder(5000, 64, kseq.cells.LSTMCell(80), characters=characters)
        >>> words, spelt = np.ones((2, 7), "int32"), np.ones((2, 7, 12), "int32")
        >>> encoder(words, np.array([7, 3]), spelt, np.full((2, 7), 12)).values.shape
        (2, 7, 160)

    Reference: B. Plank, A. Søgaard, Y. Goldberg, "Multilingual part-of-speech tagging with bidirectional long
    short-term memory models and auxiliary loss", 2016.
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_dim: int,
        cell: Cell,
        *,
        characters: CharacterEncoder,
        word_dropout: float = 0.0,
        unk_id: int = 1,
        **kwargs: Any,
    ):
        super().__init__(vocabulary_size, embedding_dim, cell, **kwargs)
        unk_id = whole("unk_id", unk_id)
        if not 0 <= unk_id < vocabulary_size:
            raise ValueError(f"unk_id={unk_id} is not a word id: the vocabulary has ids 0 to {vocabulary_size - 1}.")
        if not 0.0 <= word_dropout <= 1.0:
            raise ValueError(f"word_dropout={word_dropout} must be between 0 and 1.")
        self.characters, self.word_dropout, self.unk_id = characters, float(word_dropout), unk_id
        self.seed_generator = keras.random.SeedGenerator()
        freeze_inner_layers(self)

    @property
    def input_dim(self) -> int:
        """Size of the first recurrent layer's inputs."""
        return self.embedding_dim + self.characters.dim

    def build(self, *shapes: Any) -> None:
        """Create the weights; they do not depend on the inputs' shapes."""
        super().build()
        if not self.characters.built:  # a part loaded from a file is built already
            self.characters.build()

    def call(
        self,
        tokens: Tensor,
        lengths: Tensor,
        characters: Tensor,
        character_lengths: Tensor,
        training: bool | None = None,
    ) -> Encoded:
        """Encode a batch."""
        if training and self.word_dropout:
            dropped = keras.random.uniform(ops.shape(tokens), seed=self.seed_generator) < self.word_dropout
            tokens = ops.where(dropped, ops.cast(self.unk_id, tokens.dtype), tokens)
        spelt = self.characters(characters, character_lengths, training=training)
        return self.read(ops.concatenate([self.embedding(tokens), spelt], axis=-1), lengths, training)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "characters": keras.saving.serialize_keras_object(self.characters),
            "word_dropout": self.word_dropout,
            "unk_id": self.unk_id,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WordEncoder":
        """Create an encoder from the result of `get_config`."""
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("cell", "characters")}
        return cls(**{**config, **parts})
