"""An encoder of words by their ids and their characters."""

from typing import Any

import keras

from kseq.cells import Cell
from kseq.models.encoders.character_encoder import CharacterEncoder
from kseq.models.encoders.encoder import Encoder


@keras.saving.register_keras_serializable(package="kseq")
class WordEncoder(Encoder):
    """An `Encoder` whose word embeddings are concatenated with character-based vectors of a `CharacterEncoder`.

    The characters distinguish words outside the vocabulary. `word_dropout` replaces some words by the unknown word in
    training, so that the model learns to use the characters.

    Args:
        vocabulary_size: Number of word ids.
        embedding_dim: Size of a word's embedding.
        cell: The recurrent cell, see `Encoder`.
        characters: The encoder of the characters: a `CharacterEncoder`, or a `kseq.layers.CharNGramEmbedding`.
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
        self.add_characters(characters, word_dropout, unk_id)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), **self.characters_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WordEncoder":
        """Create an encoder from the result of `get_config`."""
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("cell", "characters")}
        return cls(**{**config, **parts})
