"""The part shared by encoders that embed tokens: embeddings, and vectors of the words' characters beside them."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.inner_layers import freeze_inner_layers
from kseq.models.encoders.character_encoder import CharacterEncoder
from kseq.models.encoders.token_encoder import Encoded, TokenEncoder
from kseq.numbers import whole


class EmbeddingEncoder(TokenEncoder):
    """The base class of encoders that read embeddings, concatenated with character-based vectors if there are any.

    A subclass defines how the embeddings are read: `build_reader`, `read` and `encoded_shape`. One that takes
    `characters` calls `add_characters` at the end of its constructor.

    Args:
        vocabulary_size: Number of token ids.
        embedding_dim: Size of a token's embedding.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, vocabulary_size: int, embedding_dim: int, **kwargs: Any):
        super().__init__(vocabulary_size, **kwargs)
        self.embedding_dim = whole("embedding_dim", embedding_dim)
        self.embedding = keras.layers.Embedding(self.vocabulary_size, self.embedding_dim, dtype=self.dtype_policy)
        self.word_dropout, self.unk_id = 0.0, 1

    def add_characters(self, characters: CharacterEncoder | None, word_dropout: float, unk_id: int) -> None:
        """Set the options of words; after the layers that read them, because files hold the weights in this order.

        Args:
            characters: The encoder of the words' characters, or None.
            word_dropout: Share of the words whose id is replaced by `unk_id` in training; their characters stay.
            unk_id: Id of the unknown word.

        Raises:
            ValueError: If `unk_id` is not in the vocabulary, or `word_dropout` is out of range.
        """
        unk_id = whole("unk_id", unk_id)
        if not 0.0 <= word_dropout <= 1.0:
            raise ValueError(f"word_dropout={word_dropout} must be between 0 and 1.")
        if not 0 <= unk_id < self.vocabulary_size:
            last = self.vocabulary_size - 1
            raise ValueError(f"unk_id={unk_id} is not a word id: the vocabulary has ids 0 to {last}.")
        self.characters, self.word_dropout, self.unk_id = characters, float(word_dropout), unk_id
        self.seed_generator = keras.random.SeedGenerator()
        freeze_inner_layers(self)

    @property
    def input_dim(self) -> int:
        """Size of the vectors that `read` gets."""
        return self.embedding_dim + (0 if self.characters is None else self.characters.dim)

    def build(
        self,
        tokens_shape: tuple | None = None,
        lengths_shape: tuple | None = None,
        characters_shape: tuple | None = None,
        character_lengths_shape: tuple | None = None,
    ) -> None:
        """Create the weights; their shapes do not depend on the inputs' shapes."""
        self.embedding.build((None, None))
        self.build_reader()
        if self.characters is not None and not self.characters.built:  # a part loaded from a file is built already
            self.characters.build()

    def call(
        self,
        tokens: Tensor,
        lengths: Tensor,
        characters: Tensor | None = None,
        character_lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> Encoded:
        """Encode a batch, see `TokenEncoder.call`."""
        values = self.embed(tokens, characters, character_lengths, training)
        if values.shape[1] == 0:  # all texts are empty: a loop over time needs at least one step
            values = ops.pad(values, [(0, 0), (0, 1), (0, 0)])
        return self.read(values, lengths, training)

    def embed(
        self, tokens: Tensor, characters: Tensor | None, character_lengths: Tensor | None, training: bool | None
    ) -> Tensor:
        """Return the vectors of the tokens, `(batch, time, input_dim)`."""
        self._check_characters(characters, character_lengths)
        if training and self.word_dropout:
            dropped = keras.random.uniform(ops.shape(tokens), seed=self.seed_generator) < self.word_dropout
            tokens = ops.where(dropped, ops.cast(self.unk_id, tokens.dtype), tokens)
        embedded = self.embedding(tokens)
        if self.characters is None:
            return embedded
        spelt = self.characters(characters, character_lengths, training=training)
        return ops.concatenate([embedded, spelt], axis=-1)

    def _check_characters(self, characters: Tensor | None, character_lengths: Tensor | None) -> None:
        """Raise ValueError if characters are missing, or there are some that no layer reads."""
        given = [each is not None for each in (characters, character_lengths)]
        if self.characters is not None and not all(given):
            raise ValueError(
                f"{type(self).__name__} reads the characters of words, but they or their lengths are missing: call it "
                "with tokens, lengths, characters and character_lengths."
            )
        if self.characters is None and any(given):
            raise ValueError(
                f"{type(self).__name__} got characters of words, but has no CharacterEncoder to read them. Create it "
                "with characters=, or call it with tokens and lengths alone."
            )

    def build_reader(self) -> None:
        """Create the weights of the layers that read vectors of size `input_dim`."""
        raise NotImplementedError(f"{type(self).__name__} must define build_reader().")

    def read(self, values: Tensor, lengths: Tensor, training: bool | None = None) -> Encoded:
        """Return the `Encoded` of `values` `(batch, time, input_dim)`, of at least one step."""
        raise NotImplementedError(f"{type(self).__name__} must define read(values, lengths, training).")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments that all these encoders have."""
        sizes = {"vocabulary_size": self.vocabulary_size, "embedding_dim": self.embedding_dim}
        return {**super().get_config(), **sizes}

    def characters_config(self) -> dict[str, Any]:
        """Return the arguments of `add_characters`, for the config of an encoder that takes them."""
        return {
            "characters": keras.saving.serialize_keras_object(self.characters),
            "word_dropout": self.word_dropout,
            "unk_id": self.unk_id,
        }
