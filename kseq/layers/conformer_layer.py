"""The layer of a Conformer: self-attention and a convolution between two halves of a feed-forward part."""

from typing import Any

import keras
from keras import ops

from kseq.attention.multi_head import Positions
from kseq.backend import Tensor
from kseq.layers.conformer_convolution import ConformerConvolution
from kseq.layers.feed_forward import FeedForward
from kseq.layers.transformer_block import TransformerBlock


@keras.saving.register_keras_serializable(package="kseq")
class ConformerLayer(TransformerBlock):
    """A Conformer layer: attention finds what is far away in a sequence, a convolution what is near.

        x = x + feed_forward(norm(x)) / 2
        x = x + attention(norm(x))
        x = x + convolution(norm(x))
        x = x + feed_forward(norm(x)) / 2
        y = norm(x)

    Each part has weights of its own. The feed-forward parts have the activation swish(x) = x sigmoid(x), and the
    convolution is, with K its kernel over `kernel_size` steps of one dimension and `*` the product by elements:

        convolution(x) = V swish(batch_norm(K conv (x W * sigmoid(x U))))

    In training, batch normalisation takes its mean and variance over all real steps of all rows; padding has no part.

    Args:
        num_heads: Number of attention heads, which divides the size of the values.
        intermediate_dim: Size of the values inside the feed-forward parts, in the paper four times that of the values.
        kernel_size: Number of steps that the convolution reads.
        dropout: Share of each part's outputs dropped in training.
        attention_dropout: Share of the attention weights dropped in training.
        positions: "relative" (P. Shaw et al., in place of the paper's sinusoids), "rotary" or None, see
            `kseq.attention.MultiHeadAttention`.
        momentum: Weight of the old value when a moving average of batch normalisation is updated.
        seed: Seed of the dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, time, dim)`.
        mask: Bool `(batch, time)`, True at the real steps. None: the implicit Keras mask of the values, if they have
            one; otherwise all steps are real.
        training: Whether dropout is on, and batch normalisation uses the batch's statistics.

    Returns:
        Float `(batch, time, dim)`, with the mask as its implicit Keras mask. Padding, NaN included, changes neither
        real steps nor gradients.

    Raises:
        ValueError: If the heads do not divide the values, an option is out of range, or values or mask have a wrong
            shape or are ragged.

    Example:
        >>> layers = [keras.layers.Dense(64), kseq.layers.ConformerLayer(4, 256), kseq.layers.ConformerLayer(4, 256)]
        >>> front_end = kseq.frontends.FrameConvolutions([64, 64])
        >>> model = kseq.models.CTCRecognizer(40, 11, layers, front_end=front_end)

    Reference: A. Gulati et al., "Conformer: convolution-augmented Transformer for speech recognition", 2020.
    """

    def __init__(
        self,
        num_heads: int,
        intermediate_dim: int,
        *,
        kernel_size: int = 31,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        positions: Positions | None = "relative",
        momentum: float = 0.99,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            num_heads, intermediate_dim, activation="swish", norm_first=True, dropout=dropout,
            attention_dropout=attention_dropout, positions=positions, seed=seed, **kwargs,
        )  # fmt: skip
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.second_feed_forward = FeedForward(intermediate_dim, "swish", name="second_feed_forward", **options)
        self.convolution = ConformerConvolution(kernel_size, momentum=momentum, name="convolution", **options)
        self.convolution_norm = self._norm("convolution_norm")
        self.second_feed_forward_norm = self._norm("second_feed_forward_norm")
        self.output_norm = self._norm("output_norm")

    def build(self, values_shape: tuple) -> None:
        """Create the weights for values `(batch, time, dim)`."""
        shape = tuple(values_shape)
        self.attention = self._attention(shape[-1], 1, "attention", positions=self.positions)
        self.attention.build(shape, shape)
        for layer in (
            self.feed_forward_norm,
            self.feed_forward,
            self.attention_norm,
            self.convolution_norm,
            self.convolution,
            self.second_feed_forward_norm,
            self.second_feed_forward,
            self.output_norm,
        ):
            layer.build(shape)

    def call(self, values: Tensor, mask: Tensor | None = None, training: bool | None = None) -> Tensor:
        """Return the values of the next layer."""
        mask = self._read_mask(values, mask)

        def attend(values: Tensor) -> Tensor:
            return self.attention(values, values, memory_mask=mask, training=training)[0]

        def convolve(values: Tensor) -> Tensor:
            return self.convolution(values, mask=mask, training=training)

        values = self._residual(self._start(values, mask), self.feed_forward_norm, _half(self.feed_forward), training)
        values = self._residual(values, self.attention_norm, attend, training)
        values = self._residual(values, self.convolution_norm, convolve, training)
        values = self._residual(values, self.second_feed_forward_norm, _half(self.second_feed_forward), training)
        return self._with_mask(self.output_norm(values), mask)

    def compute_output_shape(self, values_shape: tuple) -> tuple:
        """Return the shape of the values."""
        return tuple(values_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        for name in ("activation", "norm_first", "num_kv_heads"):  # they have one value in a Conformer
            del config[name]
        return {**config, "kernel_size": self.convolution.kernel_size, "momentum": self.convolution.momentum}


def _half(part: FeedForward) -> Any:
    """Return the function of values that halves the outputs of a part."""
    return lambda values: ops.multiply(part(values), 0.5)
