"""The pyramidal recurrent encoder of tokens."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells import Cell
from kseq.masking import mask_from_lengths, zero_padding
from kseq.models.encoders.character_encoder import CharacterEncoder
from kseq.models.encoders.encoder import Encoder
from kseq.models.encoders.token_encoder import Encoded


@keras.saving.register_keras_serializable(package="kseq")
class PyramidalEncoder(Encoder):
    """An `Encoder` in which each layer from the second on reads half as many steps as the layer below it.

    The outputs of two neighbouring steps are concatenated to one step of the next layer's inputs; if the number of
    steps is odd, the last one is concatenated with zeros. With L layers, the attention of a decoder thus chooses among
    `2 ** (L - 1)` times fewer steps: for long sources of small units, such as characters.

    Args:
        vocabulary_size: Number of token ids.
        embedding_dim: Size of a token's embedding.
        cell: The recurrent cell; every layer and direction gets a copy with its own weights, in this layer's precision.
        num_layers: Number of recurrent layers, at least 1.
        bidirectional: Whether each layer reads in both directions and concatenates the outputs.
        dropout: Share of each layer's inputs dropped in training; a row's steps share one dropout mask.
        characters: The encoder of the words' characters, whose vectors are concatenated to the embeddings, as those of
            a `WordEncoder` are. None: the encoder reads ids alone.
        word_dropout: Share of the words whose id is replaced by `unk_id` in training; their characters stay.
        unk_id: Id of the unknown word.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        tokens: int `(batch, time)`.
        lengths: int `(batch,)`, the number of real tokens in each row. Padding never changes an answer.
        characters: int `(batch, time, characters)`, only with a `CharacterEncoder`.
        character_lengths: int `(batch, time)`, the number of real characters in each word.
        training: Whether dropout is on.

    Returns:
        `Encoded(values (batch, time / subsampling, dim), mask, states)`, the time rounded up, with the final states of
        the top layer.

    A `Tagger` refuses it, because it has no values for each token.

    Example:
        >>> encoder = kseq.models.PyramidalEncoder(100, 32, kseq.cells.LSTMCell(64), num_layers=3)
        >>> encoder(np.ones((2, 10), "int32"), np.array([10, 3])).values.shape
        (2, 3, 128)

    Reference: W. Chan et al., "Listen, attend and spell: a neural network for large vocabulary conversational speech
    recognition", 2016.
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_dim: int,
        cell: Cell,
        *,
        num_layers: int = 2,
        bidirectional: bool = True,
        dropout: float = 0.0,
        characters: CharacterEncoder | None = None,
        word_dropout: float = 0.0,
        unk_id: int = 1,
        **kwargs: Any,
    ):
        options = {"num_layers": num_layers, "bidirectional": bidirectional, "dropout": dropout}
        super().__init__(vocabulary_size, embedding_dim, cell, **options, **kwargs)
        self.subsampling = 2 ** (self.num_layers - 1)
        self.add_characters(characters, word_dropout, unk_id)

    def build_reader(self) -> None:
        """Create the weights of the recurrent layers."""
        dim = self.input_dim
        for layer in self.layers:
            layer.build((None, None, dim))
            dim = 2 * layer.compute_output_shape((None, None, dim))[0][-1]

    def read(self, values: Tensor, lengths: Tensor, training: bool | None = None) -> Encoded:
        """Run the recurrent layers over `values` `(batch, time, input_dim)`."""
        states: list[Tensor] = []
        mask = mask_from_lengths(lengths, ops.shape(values)[1])
        for index, layer in enumerate(self.layers):
            if index > 0:
                values, lengths = _join_neighbours(zero_padding(values, mask)), (lengths + 1) // 2
                mask = mask_from_lengths(lengths, ops.shape(values)[1])
            values, *states = layer(self.input_dropout(values, training=training), mask=mask, training=training)
        return Encoded(values, mask, tuple(states))

    def encoded_shape(self) -> Encoded:
        """Return the shapes of what `call` returns."""
        dim, shape, states = self.input_dim, (None, None, self.input_dim), []
        for layer in self.layers:
            shape, *states = layer.compute_output_shape((None, None, dim))
            dim = 2 * shape[-1]
        return Encoded(shape, (None, None), tuple(states))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = {**super().get_config(), **self.characters_config()}
        del config["residual"]  # the inputs of a layer are wider than its outputs
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "PyramidalEncoder":
        """Create an encoder from the result of `get_config`."""
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("cell", "characters")}
        return cls(**{**config, **parts})


def _join_neighbours(values: Tensor) -> Tensor:
    """Return `values` `(batch, time, dim)` with each two steps as one, `(batch, time / 2, 2 dim)`."""
    values = ops.pad(values, [(0, 0), (0, ops.shape(values)[1] % 2), (0, 0)])
    batch, time, dim = ops.shape(values)
    return ops.reshape(values, (batch, time // 2, 2 * dim))
