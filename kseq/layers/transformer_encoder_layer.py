"""The layer of a Transformer's encoder."""

import keras

from kseq.backend import Tensor
from kseq.layers.transformer_block import TransformerBlock


@keras.saving.register_keras_serializable(package="kseq")
class TransformerEncoderLayer(TransformerBlock):
    """Self-attention and a feed-forward part, each with a residual connection and layer normalisation.

        norm_first=False:  y = norm(x + attention(x)),   norm(y + feed_forward(y))    (A. Vaswani et al.)
        norm_first=True:   y = x + attention(norm(x)),   y + feed_forward(norm(y))    (R. Xiong et al.)

    With `norm_first`, a stack of layers needs one more normalisation after the last of them.

    Args:
        num_heads: Number of attention heads, which divides the size of the values.
        intermediate_dim: Size of the values inside the feed-forward part.
        activation: "relu", "gelu", "swish", or "swiglu" (N. Shazeer 2020), which has a third matrix of the same size.
        norm_first: Whether to normalise the inputs of the parts instead of the sums.
        dropout: Share of each part's outputs dropped in training.
        attention_dropout: Share of the attention weights dropped in training.
        num_kv_heads: Number of heads of keys and values, see `kseq.attention.MultiHeadAttention`.
        positions: None, "rotary" or "relative", see `kseq.attention.MultiHeadAttention`.
        seed: Seed of the dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, time, dim)`.
        mask: Bool `(batch, time)`, True at the real steps. None: the implicit Keras mask of the values, if they have
            one; otherwise all steps are real.
        training: Whether dropout is on.

    Returns:
        Float `(batch, time, dim)`, with the mask as its implicit Keras mask. Padding, NaN included, changes neither
        real steps nor gradients.

    Raises:
        ValueError: If the heads do not divide the values, an option is out of range, or values or mask have a wrong
            shape or are ragged.

    Example:
        >>> ids = keras.Input((None,), dtype="int32")
        >>> values = keras.layers.Embedding(5000, 64, mask_zero=True)(ids)
        >>> values = kseq.layers.SinusoidalPositionalEncoding()(values)
        >>> kseq.layers.TransformerEncoderLayer(num_heads=4, intermediate_dim=256, activation="gelu")(values).shape
        (None, None, 64)

    References:
        - A. Vaswani et al., "Attention is all you need", 2017.
        - R. Xiong et al., "On layer normalization in the Transformer architecture", 2020.
        - N. Shazeer, "GLU variants improve Transformer", 2020.
    """

    def build(self, values_shape: tuple) -> None:
        """Create the weights for values `(batch, time, dim)`."""
        shape = tuple(values_shape)
        self.attention = self._attention(shape[-1], 1, "attention", positions=self.positions)
        self.attention.build(shape, shape)
        for layer in (self.attention_norm, self.feed_forward, self.feed_forward_norm):
            layer.build(shape)

    def call(self, values: Tensor, mask: Tensor | None = None, training: bool | None = None) -> Tensor:
        """Return the values of the next layer."""
        mask = self._read_mask(values, mask)

        def attend(values: Tensor) -> Tensor:
            return self.attention(values, values, memory_mask=mask, training=training)[0]

        summed = self._residual(self._start(values, mask), self.attention_norm, attend, training)
        return self._with_mask(self._residual(summed, self.feed_forward_norm, self.feed_forward, training), mask)

    def compute_output_shape(self, values_shape: tuple) -> tuple:
        """Return the shape of the values."""
        return tuple(values_shape)
