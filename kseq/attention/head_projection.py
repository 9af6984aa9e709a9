"""Linear maps between features and attention heads."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.linear import dense
from kseq.short_help import ShortHelp


class HeadProjection(keras.layers.Layer, metaclass=ShortHelp):
    """Linear map from features to heads, with the weights of Keras's `MultiHeadAttention`.

    It is made by a mechanism, which saves its arguments.

    Args:
        num_heads: Number of heads.
        head_dim: Size of each head.
        use_bias: Whether to add a bias, zero at first.
        kernel_initializer: Initializer of the kernel as a matrix `(features, num_heads * head_dim)`.
        kernel_regularizer: Regularizer of the kernel.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, time, features)`.
        factor: A number to multiply the result by.

    Returns:
        Float `(batch, num_heads, time, head_dim)`.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        *,
        use_bias: bool,
        kernel_initializer: Callable,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads, self.head_dim, self.use_bias = num_heads, head_dim, use_bias
        self.kernel_initializer, self.kernel_regularizer = kernel_initializer, kernel_regularizer

    def build(self, values_shape: tuple) -> None:
        """Create the weights: a kernel `(features, heads, head_dim)` and a bias `(heads, head_dim)`."""
        shape = (values_shape[-1], self.num_heads, self.head_dim)
        initializer = of_matrix(self.kernel_initializer, shape[0])
        self.kernel = self.add_weight(
            name="kernel", shape=shape, initializer=initializer, regularizer=self.kernel_regularizer
        )
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=shape[1:], initializer="zeros")

    def call(self, values: Tensor, factor: float = 1.0) -> Tensor:
        """Project the values of each step."""
        batch, time, features = ops.shape(values)
        # The weights are multiplied, which are smaller than the result. And TensorFlow would fuse a multiplication of
        # queries with their product with the keys and a causal mask, by which that product takes 100 times as long.
        kernel, *bias = (x if factor == 1.0 else x * factor for x in (self.kernel, *([self.bias] * self.use_bias)))
        projected = dense(values, ops.reshape(kernel, (features, self.num_heads * self.head_dim)))
        if bias:
            projected = ops.add(projected, ops.reshape(bias[0], (-1,)))
        heads = ops.reshape(projected, (batch, time, self.num_heads, self.head_dim))
        return ops.transpose(heads, (0, 2, 1, 3))


class HeadMerge(keras.layers.Layer, metaclass=ShortHelp):
    """Linear map from heads to features, with the weights of Keras's `MultiHeadAttention`.

    Args:
        units: Number of features.
        use_bias: Whether to add a bias, zero at first.
        kernel_initializer: Initializer of the kernel as a matrix `(heads * head_dim, units)`.
        kernel_regularizer: Regularizer of the kernel.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, heads, time, head_dim)`.

    Returns:
        Float `(batch, time, units)`.
    """

    def __init__(
        self,
        units: int,
        *,
        use_bias: bool,
        kernel_initializer: Callable,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units, self.use_bias = units, use_bias
        self.kernel_initializer, self.kernel_regularizer = kernel_initializer, kernel_regularizer

    def build(self, values_shape: tuple) -> None:
        """Create the weights: a kernel `(heads, head_dim, units)` and a bias `(units,)`."""
        heads, head_dim = values_shape[1], values_shape[-1]
        initializer = of_matrix(self.kernel_initializer, heads * head_dim)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(heads, head_dim, self.units),
            initializer=initializer,
            regularizer=self.kernel_regularizer,
        )
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    def call(self, values: Tensor) -> Tensor:
        """Merge the heads of each step."""
        batch, heads, time, head_dim = ops.shape(values)
        joined = ops.reshape(ops.transpose(values, (0, 2, 1, 3)), (batch, time, heads * head_dim))
        merged = dense(joined, ops.reshape(self.kernel, (heads * head_dim, self.units)))
        return ops.add(merged, self.bias) if self.use_bias else merged


def of_matrix(initializer: Callable, rows: int) -> Callable:
    """Return an initializer that draws a matrix with a number of rows, whatever the shape of the weight.

    Of a weight with three axes, Keras's initializers take the first one for that of a convolution, and draw numbers
    that are too small.
    """

    def draw(shape: tuple, dtype: Any = None) -> Tensor:
        return ops.reshape(initializer((rows, math.prod(shape) // rows), dtype=dtype), shape)

    return draw
