"""The feed-forward part of a Transformer layer."""

from typing import Any, Literal, get_args

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.linear import dense
from kseq.numbers import positive_int
from kseq.short_help import ShortHelp

Activation = Literal["relu", "gelu", "swish", "swiglu"]


class FeedForward(keras.layers.Layer, metaclass=ShortHelp):
    """Two linear maps of each step, with a nonlinearity between them.

        relu, gelu, swish:  f(x W + b) V + c
        swiglu:             (swish(x W + b) * (x U + d)) V + c    (N. Shazeer 2020), with W and U in one kernel

    where swish(x) = x sigmoid(x).

    It is made by a layer, which saves its arguments.

    Args:
        intermediate_dim: Size of the values between the two maps.
        activation: "relu", "gelu" (exact), "swish" or "swiglu".
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: Float `(..., dim)`.

    Returns:
        Float `(..., dim)`.

    Raises:
        ValueError: If an argument is out of range.

    References:
        - D. Hendrycks, K. Gimpel, "Gaussian error linear units", 2016.
        - N. Shazeer, "GLU variants improve Transformer", 2020.
    """

    def __init__(self, intermediate_dim: int, activation: Activation, **kwargs: Any):
        super().__init__(**kwargs)
        self.intermediate_dim = positive_int(self, "intermediate_dim", intermediate_dim)
        if activation not in get_args(Activation):
            raise ValueError(f"activation={activation!r}, but it must be one of {get_args(Activation)}.")
        self.activation = activation

    def build(self, values_shape: tuple) -> None:
        """Create the weights."""
        dim = values_shape[-1]
        wide = self.intermediate_dim * (2 if self.activation == "swiglu" else 1)
        self.kernel = self.add_weight(name="kernel", shape=(dim, wide), initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(wide,), initializer="zeros")
        shape = (self.intermediate_dim, dim)
        self.output_kernel = self.add_weight(name="output_kernel", shape=shape, initializer="glorot_uniform")
        self.output_bias = self.add_weight(name="output_bias", shape=(dim,), initializer="zeros")

    def call(self, values: Tensor) -> Tensor:
        """Map the values of each step."""
        wide = ops.add(dense(values, self.kernel), self.bias)
        return ops.add(dense(self._activated(wide), self.output_kernel), self.output_bias)

    def _activated(self, wide: Tensor) -> Tensor:
        if self.activation == "relu":
            return ops.relu(wide)
        if self.activation == "gelu":
            return ops.gelu(wide, approximate=False)
        if self.activation == "swish":
            return ops.silu(wide)
        gate, linear = ops.split(wide, 2, axis=-1)
        return ops.silu(gate) * linear
