"""Additive (Bahdanau) attention."""

import math
from typing import Any

import keras
from keras import ops

from kseq.attention.attention import Attention
from kseq.backend import Tensor
from kseq.linear import dense
from kseq.numbers import positive_int


@keras.saving.register_keras_serializable(package="kseq")
class AdditiveAttention(Attention):
    """Additive (Bahdanau) attention: the score of a query and a key is a network with one hidden layer of `units`.

    `score = v . tanh(W query + U value + b)`; with `normalize=True`, `v` is replaced by `g v / |v|`.

    Args:
        units: Number of hidden units.
        use_bias: Whether to add the bias `b`.
        normalize: Whether `v` is weight-normalised, with a learned gain `g`, initially `sqrt(1 / units)`.
        **kwargs: Arguments of `Attention` and of `keras.layers.Layer`.

    Call arguments, returns, errors: as in `Attention`.

    Example:
        >>> attention = AdditiveAttention(units=16)
        >>> memory = attention.memory(np.zeros((2, 7, 5), "float32"), mask_from_lengths(np.array([7, 3]), 7))
        >>> context, weights, state = attention(np.zeros((2, 4), "float32"), memory)
        >>> context.shape, weights.shape
        ((2, 5), (2, 7))

    References:
        - D. Bahdanau, K. Cho, Y. Bengio, "Neural machine translation by jointly learning to align and translate", 2015.
        - T. Salimans, D. Kingma, "Weight normalization", 2016.
    """

    def __init__(
        self,
        units: int,
        *,
        use_bias: bool = True,
        normalize: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = units = positive_int(self, "units", units)
        self.use_bias = use_bias
        self.normalize = normalize
        self.query_layer = self.new_projection(units, name="query", use_bias=use_bias)
        self.memory_layer = self.new_projection(units, name="memory")

    def build(self, query_shape: tuple, memory_shape: tuple) -> None:
        """Create the weights, except those that `memory` has already built."""
        super().build(query_shape, memory_shape)
        if not self.query_layer.built:
            self.query_layer.build((None, self.query_dim))
        if not self.memory_layer.built:
            self.memory_layer.build((None, None, self.value_dim))
        self.v = self.add_weight(name="v", shape=(self.units,), initializer=self.new_initializer())
        if self.normalize:
            gain = keras.initializers.Constant(math.sqrt(1.0 / self.units))
            self.gain = self.add_weight(name="gain", shape=(), initializer=gain)

    def project_keys(self, values: Tensor) -> Tensor:
        """Return `U value`, `(batch, time, units)`."""
        return self.memory_layer(values)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return the scores `(batch, queries, time)`."""
        return self.compare(query, keys[:, None])

    def compare(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return the scores `(batch, queries, time)` of keys `(batch, 1 or queries, time, units)`."""
        hidden = ops.tanh(self._project_query(query)[:, :, None] + keys)  # (batch, queries, time, units)
        # As a product of matrices, whose gradient is also one: a sum would take twice the time in a loop.
        return ops.squeeze(dense(hidden, self._comparison()[:, None]), axis=-1)

    def _project_query(self, query: Tensor) -> Tensor:
        projected = dense(query, self.query_layer.kernel)
        return ops.add(projected, self.query_layer.bias) if self.use_bias else projected

    def _comparison(self) -> Tensor:
        if not self.normalize:
            return ops.convert_to_tensor(self.v)
        return self.gain * self.v * ops.rsqrt(ops.sum(ops.square(self.v)))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "use_bias": self.use_bias,
            "normalize": self.normalize,
        }


BahdanauAttention = AdditiveAttention
