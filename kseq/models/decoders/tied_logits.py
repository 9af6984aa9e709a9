"""A layer of logits whose kernel is the transpose of an embedding."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor


class TiedLogits(keras.layers.Layer):
    """Computes logits `hidden E^T + b`, E being the table of an embedding, which it shares.

    Args:
        embedding: The embedding, of `vocabulary` ids to vectors of `units`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        hidden: Float `(..., units)`.

    Returns:
        Float `(..., vocabulary)`, in the layer's precision.

    Reference: O. Press, L. Wolf, "Using the output embedding to improve language models", 2017.
    """

    def __init__(self, embedding: keras.layers.Embedding, **kwargs: Any):
        super().__init__(**kwargs)
        self.embedding = embedding

    def build(self, hidden_shape: Any = None) -> None:
        """Create the bias."""
        self.bias = self.add_weight(name="bias", shape=(self.embedding.input_dim,), initializer="zeros")

    def call(self, hidden: Tensor) -> Tensor:
        """Return the logits."""
        table = ops.cast(self.embedding.embeddings, self.compute_dtype)
        return ops.matmul(hidden, ops.transpose(table)) + self.bias
