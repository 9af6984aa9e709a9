"""Word vectors computed from characters."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells import Cell
from kseq.cells.copies import config_of, copy_of
from kseq.inner_layers import freeze_inner_layers
from kseq.layers import RNN, Bidirectional
from kseq.masking import mask_from_lengths
from kseq.numbers import whole
from kseq.short_help import ShortHelp


@keras.saving.register_keras_serializable(package="kseq")
class CharacterEncoder(keras.layers.Layer, metaclass=ShortHelp):
    """Reads each word's characters in both directions; a word's vector is the last output of both directions.

    All words of a batch form one batch, so the loop has as many steps as the longest word has characters.

    Args:
        vocabulary_size: Number of character ids.
        embedding_dim: Size of a character's embedding.
        cell: The recurrent cell; each direction gets a copy with its own weights, in this layer's precision.
        dropout: Share of the embeddings dropped in training; the characters of a word share one dropout mask.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        characters: int `(batch, words, characters)`.
        lengths: int `(batch, words)`, the number of real characters in each word. Padding never changes an answer.
        training: Whether dropout is on.

    Returns:
        Float `(batch, words, 2 units)`, zeros for a word without characters.

    Example:
        >>> encoder = kseq.models.CharacterEncoder(100, 32, kseq.cells.LSTMCell(48))
        >>> encoder(np.ones((2, 7, 12), "int32"), np.full((2, 7), 12)).shape
        (2, 7, 96)

    Reference: W. Ling et al., "Finding function in form: compositional character models for open vocabulary word
    representation", 2015.
    """

    def __init__(self, vocabulary_size: int, embedding_dim: int, cell: Cell, *, dropout: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        vocabulary_size = whole("vocabulary_size", vocabulary_size)
        embedding_dim = whole("embedding_dim", embedding_dim)
        self.vocabulary_size, self.embedding_dim, self.dropout = vocabulary_size, embedding_dim, float(dropout)
        self.cell_config = config_of(cell)
        self.dim = 2 * cell.output_size
        self.embedding = keras.layers.Embedding(vocabulary_size, embedding_dim, dtype=self.dtype_policy)
        self.input_dropout = keras.layers.Dropout(dropout, noise_shape=(None, 1, None), dtype=self.dtype_policy)
        layer = RNN(copy_of(cell, self.dtype_policy), dtype=self.dtype_policy)
        self.layer = Bidirectional(layer, dtype=self.dtype_policy)
        freeze_inner_layers(self)

    def build(self, characters_shape: tuple | None = None, lengths_shape: tuple | None = None) -> None:
        """Create the weights; their shapes do not depend on the inputs' shapes."""
        self.embedding.build((None, None))
        self.layer.build((None, None, self.embedding_dim))

    def call(self, characters: Tensor, lengths: Tensor, training: bool | None = None) -> Tensor:
        """Return each word's vector."""
        if characters.shape[2] == 0:  # all words are empty: a loop over time needs at least one step
            characters = ops.pad(characters, [(0, 0), (0, 0), (0, 1)])
        batch, words, width = ops.shape(characters)
        flat = ops.reshape(characters, (batch * words, width))
        mask = mask_from_lengths(ops.reshape(lengths, (batch * words,)), width)
        inputs = self.input_dropout(self.embedding(flat), training=training)  # (batch * words, characters, dim)
        vectors = self.layer(inputs, mask=mask, training=training)  # (batch * words, 2 units)
        return ops.reshape(vectors, (batch, words, self.dim))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "embedding_dim": self.embedding_dim,
            "cell": self.cell_config,
            "dropout": self.dropout,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CharacterEncoder":
        """Create an encoder from the result of `get_config`."""
        return cls(**{**config, "cell": keras.saving.deserialize_keras_object(config["cell"])})
