"""The encoder of vectors."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.inner_layers import freeze_inner_layers
from kseq.models.encoders.array_encoder import ArrayEncoder
from kseq.models.encoders.token_encoder import Encoded
from kseq.numbers import positive_int, share, whole


@keras.saving.register_keras_serializable(package="kseq")
class VectorEncoder(ArrayEncoder):
    """Reads one vector for each row, from which a decoder writes a sequence (one to many).

        s = activation(W x + b)

    A `Decoder(..., context="initial")` makes its first state of s; with `context="every_step"` each of its steps reads
    s. For a decoder with attention, s is a memory of one step.

    Args:
        size: Number of values of a vector.
        units: Number of values of s.
        activation: Activation of s, a function or its name.
        dropout: Share of the values of x dropped in training.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: float or int `(batch, size)`.
        training: Whether dropout is on.

    Returns:
        `Encoded(values (batch, 1, units), mask, states)` with one state `(batch, units)`: s, both times.

    Raises:
        ValueError: If an option is out of range, or the vectors have another size.

    Example:
        >>> encoder = kseq.models.VectorEncoder(10, 32)
        >>> decoder = kseq.models.Decoder(50, 16, kseq.cells.GRUCell(32), context="initial")
        >>> model = kseq.models.Seq2Seq(encoder, decoder)
        >>> model.compile("adam")
        >>> model.fit({"source": vectors, "target": ids, "target_lengths": lengths})
    """

    def __init__(self, size: int, units: int, *, activation: Any = "tanh", dropout: float = 0.0, **kwargs: Any):
        super().__init__((whole("size", size),), **kwargs)
        self.units, self.dropout = positive_int(self, "units", units), share(self, "dropout", dropout)
        self.activation = keras.activations.get(activation)
        self.dense = keras.layers.Dense(self.units, activation=self.activation, dtype=self.dtype_policy)
        self.input_dropout = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)
        freeze_inner_layers(self)

    def build(self, values_shape: Any = None, lengths_shape: Any = None) -> None:
        """Create the weights; their shapes do not depend on the inputs' shapes."""
        self.dense.build((None, *self.row_shape))

    def encode(self, values: Tensor, training: bool | None = None) -> Encoded:
        """Encode a batch, see `ArrayEncoder.encode`."""
        state = self.dense(self.input_dropout(values, training=training))
        return Encoded(state[:, None], ops.ones((ops.shape(state)[0], 1), dtype="bool"), (state,))

    def encoded_shape(self) -> Encoded:
        """Return the shapes of what `call` returns."""
        return Encoded((None, 1, self.units), (None, 1), ((None, self.units),))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "size": self.row_shape[0],
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout,
        }
