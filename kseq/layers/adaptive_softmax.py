"""The adaptive softmax."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.losses.cluster_log_probabilities import cluster_log_probabilities
from kseq.numbers import ids, positive_int, real


@keras.saving.register_keras_serializable(package="kseq")
class AdaptiveSoftmax(keras.layers.Layer):
    """Log-probabilities of a large vocabulary, in which rare tokens have small vectors.

        p(token) = softmax(W_0 h)_token                                     for the tokens of the head
        p(token) = softmax(W_0 h)_(cluster i) softmax(W_i P_i h)_token       for the tokens of cluster i

    The probabilities are exact and sum to 1. Ids must be sorted by frequency, frequent ones first, as those of the
    vocabularies of `kseq.text` are. The head has the ids below the first cutoff, and one output for each cluster;
    cluster i has the ids from cutoff i on, in `units / div_value ** i` dimensions. In training only the tokens of a
    cluster pass through it, see `log_probability`.

    Args:
        vocabulary_size: Number of token ids.
        cutoffs: Increasing ids at which clusters begin, such as (2000, 10000), above 0 and below `vocabulary_size`.
        div_value: By what factor the vectors of a cluster are smaller than those of the one before.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        hidden: Float `(..., units)`.

    Returns:
        Log-probabilities in nats, float `(..., vocabulary_size)`, in the layer's precision.

    Raises:
        ValueError: If an option is out of range, or a cluster's vectors would have no dimension.

    Example:
        >>> layer = kseq.layers.AdaptiveSoftmax(50000, (2000, 10000))
        >>> layer(np.zeros((2, 256))).shape
        (2, 50000)

    Reference: E. Grave, A. Joulin, M. Cisse, D. Grangier, H. Jegou, "Efficient softmax approximation for GPUs", 2017;
    without its biases, as `torch.nn.AdaptiveLogSoftmaxWithLoss`.
    """

    def __init__(
        self,
        vocabulary_size: int,
        cutoffs: Sequence[int],
        *,
        div_value: float = 4.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.vocabulary_size = positive_int(self, "vocabulary_size", vocabulary_size)
        self.cutoffs = tuple(ids("cutoffs", cutoffs).tolist())
        ends = np.array([0, *self.cutoffs, self.vocabulary_size])
        if not self.cutoffs or (np.diff(ends) < 1).any():
            raise ValueError(
                f"cutoffs={cutoffs!r}, but they must be increasing ids above 0 and below vocabulary_size="
                f"{self.vocabulary_size}, at least one, such as ({max(self.vocabulary_size // 5, 1)},)."
            )
        self.div_value = real("div_value", div_value)
        if not self.div_value >= 1:
            raise ValueError(f"div_value={div_value!r} must be at least 1: rare tokens have smaller vectors.")

    def build(self, hidden_shape: Any) -> None:
        """Create the kernels."""
        units = hidden_shape[-1]
        sizes = [int(units // self.div_value ** (cluster + 1)) for cluster in range(len(self.cutoffs))]
        if min(sizes) < 1:
            raise ValueError(
                f"The vectors of {len(sizes)} clusters would have {sizes} dimensions: units={units} divided by powers "
                f"of div_value={self.div_value:g}. Give fewer cutoffs or a smaller div_value."
            )
        self.kernel = self._kernel("kernel", (units, self.cutoffs[0] + len(self.cutoffs)))
        self.projections, self.kernels = [], []
        ends = [*self.cutoffs, self.vocabulary_size]
        for cluster, size in enumerate(sizes):
            self.projections.append(self._kernel(f"projection_{cluster}", (units, size)))
            self.kernels.append(self._kernel(f"kernel_{cluster}", (size, ends[cluster + 1] - ends[cluster])))

    def _kernel(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.add_weight(name=name, shape=shape, initializer="glorot_uniform")

    def call(self, hidden: Tensor) -> Tensor:
        """Return the log-probabilities of all tokens."""
        head = ops.log_softmax(ops.matmul(hidden, self.kernel), axis=-1)
        parts = [head[..., : self.cutoffs[0]]]
        for cluster, (first, second) in enumerate(zip(self.projections, self.kernels, strict=True)):
            inside = ops.log_softmax(ops.matmul(ops.matmul(hidden, first), second), axis=-1)
            place = self.cutoffs[0] + cluster
            parts.append(head[..., place : place + 1] + inside)
        return ops.concatenate(parts, axis=-1)

    def log_probability(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Return the log-probability of one token at each place, without those of the others.

        The time of a cluster is that of its tokens alone, compiled by XLA or not.

        Args:
            hidden: Float `(..., units)`.
            tokens: int32 `(...)`.

        Returns:
            float32 `(...)`; NaN, without a gradient, where a token is outside the vocabulary.
        """
        if not self.built:
            self.build(hidden.shape)
        shape, ends = ops.shape(tokens), [*self.cutoffs, self.vocabulary_size]
        tokens = ops.reshape(tokens, (-1,))
        right = ops.logical_and(tokens >= 0, tokens < self.vocabulary_size)
        hidden = ops.cast(ops.reshape(hidden, (-1, hidden.shape[-1])), "float32")
        in_head, found = ops.clip(tokens, 0, self.cutoffs[0] - 1), ops.zeros_like(tokens, dtype="float32")
        for cluster, (first, second) in enumerate(zip(self.projections, self.kernels, strict=True)):
            inside = ops.logical_and(tokens >= ends[cluster], tokens < ends[cluster + 1])
            in_head = ops.where(inside, self.cutoffs[0] + cluster, in_head)
            places = ops.where(inside, tokens - ends[cluster], -1)
            first, second = (ops.cast(ops.convert_to_tensor(each), "float32") for each in (first, second))
            found = found + cluster_log_probabilities(hidden, first, second, places)
        head = ops.log_softmax(ops.matmul(hidden, ops.cast(ops.convert_to_tensor(self.kernel), "float32")), axis=-1)
        found = found + ops.take_along_axis(head, in_head[:, None], axis=-1)[:, 0]
        return ops.reshape(ops.where(right, found, np.float32(np.nan)), shape)

    def compute_output_shape(self, hidden_shape: Any) -> tuple:
        """Return the shape of the log-probabilities."""
        return (*hidden_shape[:-1], self.vocabulary_size)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "cutoffs": list(self.cutoffs),
            "div_value": self.div_value,
        }
