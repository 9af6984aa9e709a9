"""Dot-product (Luong) attention."""

import math
from typing import Any

import keras
from keras import ops

from kseq.attention.attention import Attention
from kseq.backend import Tensor
from kseq.numbers import positive_int


@keras.saving.register_keras_serializable(package="kseq")
class DotProductAttention(Attention):
    """Dot-product (Luong) attention: the score of a query and a key is their dot product.

    - `DotProductAttention()`: `score = query . value / sqrt(dim)`, Vaswani's scaled product;
    - `DotProductAttention(scale=False)`: `score = query . value`, Luong's "dot";
    - `DotProductAttention(scale=False, general=True)`: `score = query . W value`, Luong's "general". With the learned
      matrix W, queries and values may differ in size. W is applied to the values, once per source.

    Args:
        scale: Whether to divide scores by the square root of the query's size.
        general: Whether to use a learned matrix W.
        units: The query's size; only with `general`. Required if `memory` is called before the layer is built, because
            the query's size is then unknown.
        **kwargs: Arguments of `Attention` and of `keras.layers.Layer`.

    Call arguments, returns: as in `Attention`.

    Raises:
        ValueError: If there are `units`, a `kernel_initializer` or a `kernel_regularizer` without `general`, if query
            and values differ in size without `general`, if `units` is not the query's size, or if
            `memory` is called before the query's size is known.

    Example:
        >>> attention = DotProductAttention(general=True, units=4)
        >>> memory = attention.memory(np.zeros((2, 7, 5), "float32"))
        >>> context, weights, state = attention(np.zeros((2, 3, 4), "float32"), memory)  # three queries per row
        >>> context.shape, weights.shape
        ((2, 3, 5), (2, 3, 7))

    References:
        - M. Luong, H. Pham, C. Manning, "Effective approaches to attention-based neural machine translation", 2015.
        - A. Vaswani et al., "Attention is all you need", 2017.
    """

    def __init__(
        self,
        *,
        scale: bool = True,
        general: bool = False,
        units: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if units is not None and not general:
            raise ValueError(f"DotProductAttention takes units={units} only with general=True, which has a matrix.")
        if not general and self.has_matrix_options():
            raise ValueError(
                "DotProductAttention takes a kernel_initializer and a kernel_regularizer only with general=True: "
                "otherwise it has no matrix."
            )
        self.scale = scale
        self.general = general
        self.units = units if units is None else positive_int(self, "units", units)
        self.memory_layer = self.new_projection(self.units, name="memory") if self.units is not None else None

    def build(self, query_shape: tuple, memory_shape: tuple) -> None:
        """Create the weights, except those that `memory` has already built."""
        super().build(query_shape, memory_shape)
        key_dim = (self.units or self.query_dim) if self.general else self.value_dim
        if self.query_dim is None or self.query_dim != key_dim:
            raise ValueError(
                f"DotProductAttention compares a query of size {self.query_dim} with keys of size {key_dim}. "
                + ("Give units the query's size." if self.general else "general=True puts a matrix between them.")
            )
        if self.general and self.memory_layer is None:
            self.memory_layer = self.new_projection(self.query_dim, name="memory")
        if self.memory_layer is not None and not self.memory_layer.built:
            self.memory_layer.build((None, None, self.value_dim))

    def project_keys(self, values: Tensor) -> Tensor:
        """Return `W value`, or the values themselves, `(batch, time, query_dim)`."""
        if self.memory_layer is not None:
            return self.memory_layer(values)
        if self.general:
            raise ValueError(
                "DotProductAttention(general=True).memory was called before the query's size was known. "
                "Give it as units=..., or call build(query_shape, memory_shape) first."
            )
        return values

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return the scores `(batch, queries, time)`."""
        if self.scale:
            query = query * (1.0 / math.sqrt(query.shape[-1]))  # before the product, so that float16 does not overflow
        return ops.matmul(query, ops.swapaxes(keys, 1, 2))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "scale": self.scale,
            "general": self.general,
            "units": self.units,
        }
