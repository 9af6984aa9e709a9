"""The convolution in a Conformer layer."""

from functools import partial
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor, has_accelerator, under_xla
from kseq.empty_batches import with_rows
from kseq.linear import dense
from kseq.masking import zero_padding
from kseq.numbers import positive_int
from kseq.short_help import ShortHelp


class ConformerConvolution(keras.layers.Layer, metaclass=ShortHelp):
    """A gated linear unit, a convolution of each dimension by itself, batch normalisation, swish, and a linear map.

        y_t = V swish(batch_norm(sum of k_i * g_{t - a + i}) + b) + c,   g = (x W + d) * sigmoid(x U + e)

    with a = (kernel_size - 1) // 2, and W and U in one kernel. It is made by a `ConformerLayer`, which saves its
    arguments.

    Args:
        kernel_size: Number of steps of the convolution.
        momentum: Weight of the old value when a moving average of batch normalisation is updated.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, time, dim)`.
        mask: Bool `(batch, time)`, True at the real steps, or None. Padding, NaN included, counts as zeros.
        training: Whether batch normalisation uses the mean and variance over the real steps of the batch.

    Returns:
        Float `(batch, time, dim)`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, kernel_size: int, *, momentum: float = 0.99, **kwargs: Any):
        super().__init__(**kwargs)
        self.kernel_size = positive_int(self, "kernel_size", kernel_size)
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f"momentum={momentum}, but a moving average needs a number from 0 to less than 1.")
        self.momentum = float(momentum)
        self.supports_masking = True
        self.normalization = keras.layers.BatchNormalization(
            momentum=self.momentum, dtype=self.dtype_policy, trainable=self.trainable, name="normalization"
        )

    def build(self, values_shape: tuple) -> None:
        """Create the weights."""
        dim = values_shape[-1]
        self.gate_kernel = self.add_weight(name="gate_kernel", shape=(dim, 2 * dim), initializer="glorot_uniform")
        self.gate_bias = self.add_weight(name="gate_bias", shape=(2 * dim,), initializer="zeros")
        # Each output has `kernel_size` inputs, and not `kernel_size * dim`, as Keras's initializers assume.
        scale = keras.initializers.RandomUniform(-(self.kernel_size**-0.5), self.kernel_size**-0.5)
        self.kernel = self.add_weight(name="kernel", shape=(self.kernel_size, dim), initializer=scale)
        self.output_kernel = self.add_weight(name="output_kernel", shape=(dim, dim), initializer="glorot_uniform")
        self.output_bias = self.add_weight(name="output_bias", shape=(dim,), initializer="zeros")
        self.normalization.build(tuple(values_shape))

    def call(self, values: Tensor, mask: Tensor | None = None, training: bool | None = None) -> Tensor:
        """Convolve the values of each row."""
        linear, gate = ops.split(ops.add(dense(values, self.gate_kernel), self.gate_bias), 2, axis=-1)
        gated = zero_padding(linear * ops.sigmoid(gate), mask)
        convolved = with_rows(partial(convolve_depthwise, kernel=ops.cast(self.kernel, gated.dtype)), gated)
        normalized = self.normalization(convolved, training=training, mask=mask)
        return ops.add(dense(ops.silu(normalized), self.output_kernel), self.output_bias)


def convolve_depthwise(values: Tensor, kernel: Tensor) -> Tensor:
    """Return the convolution over time of each dimension by itself, of the same length.

    Args:
        values: `(batch, time, dim)`.
        kernel: `(width, dim)`.
    """
    width = kernel.shape[0]
    values = ops.pad(values, [(0, 0), ((width - 1) // 2, width // 2), (0, 0)])
    if not under_xla() or has_accelerator():
        return ops.depthwise_conv(values, kernel[..., None])
    # XLA's convolution of single dimensions takes many times as long on a processor.
    time = ops.shape(values)[1] - (width - 1)
    total = values[:, :time] * kernel[0]
    for place in range(1, width):
        total = total + values[:, place : place + time] * kernel[place]
    return total
