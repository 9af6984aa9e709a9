"""The recurrent encoder of tokens."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells import Cell
from kseq.cells.copies import config_of, copy_of
from kseq.inner_layers import freeze_inner_layers
from kseq.layers import RNN, Bidirectional
from kseq.masking import mask_from_lengths
from kseq.models.encoders.embedding_encoder import EmbeddingEncoder
from kseq.models.encoders.token_encoder import Encoded
from kseq.numbers import whole


@keras.saving.register_keras_serializable(package="kseq")
class Encoder(EmbeddingEncoder):
    """Embeds token ids and reads them with one or more recurrent layers.

    Args:
        vocabulary_size: Number of token ids.
        embedding_dim: Size of a token's embedding.
        cell: The recurrent cell; every layer and direction gets a copy with its own weights, in this layer's precision.
        num_layers: Number of recurrent layers, at least 1.
        bidirectional: Whether each layer reads in both directions and concatenates the outputs.
        dropout: Share of each layer's inputs dropped in training; a row's steps share one dropout mask (Y. Gal, Z.
            Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016).
        residual: Whether each layer from the second on adds its input to its output.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        tokens: int `(batch, time)`.
        lengths: int `(batch,)`, the number of real tokens in each row. Padding never changes an answer.
        training: Whether dropout is on.

    Returns:
        `Encoded(values (batch, time, dim), mask, states)`. For a row of length 0, the values are zero and the states
        are the initial ones.

    Example:
        >>> encoder = kseq.models.Encoder(100, 32, kseq.cells.GRUCell(64), num_layers=2, residual=True)
        >>> encoder(np.ones((2, 7), "int32"), np.array([7, 3])).values.shape
        (2, 7, 128)
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_dim: int,
        cell: Cell,
        *,
        num_layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        residual: bool = False,
        **kwargs: Any,
    ):
        super().__init__(vocabulary_size, embedding_dim, **kwargs)
        num_layers = whole("num_layers", num_layers)
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers}, but an encoder needs at least 1 recurrent layer.")
        self.cell_config = config_of(cell)
        self.num_layers, self.bidirectional = num_layers, bidirectional
        self.dropout, self.residual = float(dropout), residual
        self.input_dropout = keras.layers.Dropout(dropout, noise_shape=(None, 1, None), dtype=self.dtype_policy)
        self.layers = [self._layer(cell) for _ in range(num_layers)]
        freeze_inner_layers(self)

    def _layer(self, cell: Cell) -> keras.layers.Layer:
        cell = copy_of(cell, self.dtype_policy)
        layer = RNN(cell, return_sequences=True, return_state=True, zero_output_for_mask=True, dtype=self.dtype_policy)
        return Bidirectional(layer, dtype=self.dtype_policy) if self.bidirectional else layer

    @property
    def causal(self) -> bool:
        """Whether the values of a step depend on the steps before it, and on itself, alone."""
        return not self.bidirectional

    def build_reader(self) -> None:
        """Create the weights of the recurrent layers."""
        dim = self.input_dim
        for layer in self.layers:
            layer.build((None, None, dim))
            dim = layer.compute_output_shape((None, None, dim))[0][-1]

    def read(self, values: Tensor, lengths: Tensor, training: bool | None = None) -> Encoded:
        """Run the recurrent layers over `values` `(batch, time, input_dim)`."""
        mask = mask_from_lengths(lengths, ops.shape(values)[1])
        states: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            inputs = self.input_dropout(values, training=training)
            outputs, *states = layer(inputs, mask=mask, training=training)
            values = outputs + values if self.residual and index > 0 else outputs
        return Encoded(values, mask, tuple(states))

    def encoded_shape(self) -> Encoded:
        """Return the shapes of what `call` returns."""
        shape, states = (None, None, self.input_dim), []
        for layer in self.layers:
            shape, *states = layer.compute_output_shape(shape)
        return Encoded(shape, (None, None), tuple(states))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "cell": self.cell_config,
            "num_layers": self.num_layers,
            "bidirectional": self.bidirectional,
            "dropout": self.dropout,
            "residual": self.residual,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Encoder":
        """Create an encoder from the result of `get_config`."""
        return cls(**{**config, "cell": keras.saving.deserialize_keras_object(config["cell"])})
