"""The convolutional encoder of tokens."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.empty_batches import with_rows
from kseq.inner_layers import freeze_inner_layers
from kseq.layers import SequencePooling
from kseq.masking import mask_from_lengths, zero_padding
from kseq.models.encoders.character_encoder import CharacterEncoder
from kseq.models.encoders.embedding_encoder import EmbeddingEncoder
from kseq.models.encoders.token_encoder import Encoded
from kseq.numbers import flag, ids, positive_int, share


@keras.saving.register_keras_serializable(package="kseq")
class ConvolutionalEncoder(EmbeddingEncoder):
    """Embeds token ids and reads them with layers of convolutions of several widths, side by side.

    The outputs of a layer's convolutions are concatenated:

        h_t = [f(W_k x_{t-a} ... x_{t+b} + c_k) for each width k],   a = (k - 1) // 2, b = k // 2

    With one layer, and a `SequenceClassifier(..., pooling="max")` around it, this is the network of Y. Kim; with
    `residual` and several layers a stack of residual convolutions. Steps before the first token and after the last one
    are zeros in every layer.

    Args:
        vocabulary_size: Number of token ids.
        embedding_dim: Size of a token's embedding.
        filters: Number of outputs of each convolution; a layer has `filters * len(kernel_sizes)`.
        kernel_sizes: Widths of the convolutions of a layer, in tokens.
        num_layers: Number of layers, at least 1.
        activation: Activation of the convolutions, a function or its name.
        dropout: Share of each layer's inputs dropped in training; a row's steps share one dropout mask.
        residual: Whether each layer from the second on adds its input to its output.
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
        `Encoded(values (batch, time, dim), mask, states)` with one state `(batch, dim)`, the mean of the values over
        the real steps. For a row of length 0 all of them are zero.

    Raises:
        ValueError: If a size is not positive, or a share not between 0 and 1.

    Example:
        >>> encoder = kseq.models.ConvolutionalEncoder(5000, 100, 64, kernel_sizes=(3, 4, 5))
        >>> encoder(np.ones((2, 7), "int32"), np.array([7, 3])).values.shape
        (2, 7, 192)

    References:
        - Y. Kim, "Convolutional neural networks for sentence classification", 2014.
        - J. Gehring et al., "A convolutional encoder model for neural machine translation", 2017.
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_dim: int,
        filters: int,
        *,
        kernel_sizes: Sequence[int] = (3, 4, 5),
        num_layers: int = 1,
        activation: Any = "relu",
        dropout: float = 0.0,
        residual: bool = False,
        characters: CharacterEncoder | None = None,
        word_dropout: float = 0.0,
        unk_id: int = 1,
        **kwargs: Any,
    ):
        super().__init__(vocabulary_size, embedding_dim, **kwargs)
        self.filters = positive_int(self, "filters", filters)
        self.num_layers = positive_int(self, "num_layers", num_layers)
        self.kernel_sizes = tuple(ids("kernel_sizes", kernel_sizes).tolist())
        if not self.kernel_sizes or min(self.kernel_sizes) < 1:
            raise ValueError(f"kernel_sizes={kernel_sizes!r}, but a layer needs convolutions of at least 1 token.")
        self.activation = keras.activations.get(activation)
        self.dropout, self.residual = share(self, "dropout", dropout), flag("residual", residual)
        self.input_dropout = keras.layers.Dropout(dropout, noise_shape=(None, 1, None), dtype=self.dtype_policy)
        # One flat list: Keras does not save the layers in a list inside of another one.
        self.convolutions = [self._convolution(size) for _ in range(self.num_layers) for size in self.kernel_sizes]
        self.mean = SequencePooling("mean", dtype=self.dtype_policy)
        self.add_characters(characters, word_dropout, unk_id)
        freeze_inner_layers(self)

    def _convolution(self, size: int) -> keras.layers.Layer:
        return keras.layers.Conv1D(
            self.filters, size, padding="same", activation=self.activation, dtype=self.dtype_policy
        )

    @property
    def dim(self) -> int:
        """Size of the values."""
        return self.filters * len(self.kernel_sizes)

    def _layers_of_convolutions(self) -> list[list[keras.layers.Layer]]:
        count = len(self.kernel_sizes)
        return [self.convolutions[start : start + count] for start in range(0, len(self.convolutions), count)]

    def build_reader(self) -> None:
        """Create the kernels."""
        dim = self.input_dim
        for layer in self._layers_of_convolutions():
            for convolution in layer:
                convolution.build((None, None, dim))
            dim = self.dim

    def read(self, values: Tensor, lengths: Tensor, training: bool | None = None) -> Encoded:
        """Run the convolutions over `values` `(batch, time, input_dim)`."""
        values = with_rows(partial(self._convolve, training=training), values, lengths)
        mask = mask_from_lengths(lengths, ops.shape(values)[1])
        return Encoded(values, mask, (self.mean(values, mask=mask),))

    def _convolve(self, values: Tensor, lengths: Tensor, training: bool | None) -> Tensor:
        mask = mask_from_lengths(lengths, ops.shape(values)[1])
        values = zero_padding(values, mask)
        for index, layer in enumerate(self._layers_of_convolutions()):
            inputs = self.input_dropout(values, training=training)
            outputs = ops.concatenate([convolution(inputs) for convolution in layer], axis=-1)
            values = zero_padding(outputs + values if self.residual and index > 0 else outputs, mask)
        return values

    def encoded_shape(self) -> Encoded:
        """Return the shapes of what `call` returns."""
        return Encoded((None, None, self.dim), (None, None), ((None, self.dim),))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_sizes": list(self.kernel_sizes),
            "num_layers": self.num_layers,
            "activation": keras.activations.serialize(self.activation),
            "dropout": self.dropout,
            "residual": self.residual,
            **self.characters_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ConvolutionalEncoder":
        """Create an encoder from the result of `get_config`."""
        return cls(**{**config, "characters": keras.saving.deserialize_keras_object(config["characters"])})
