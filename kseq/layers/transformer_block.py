"""Residual parts shared by the layers of Transformers."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kseq.attention import MultiHeadAttention
from kseq.attention.multi_head import Positions
from kseq.backend import Tensor, dropout_mask
from kseq.layers.feed_forward import Activation, FeedForward
from kseq.masking import check_mask, implicit_mask, refuse_ragged, set_implicit_mask, zero_padding
from kseq.numbers import flag, plain_seed, positive_int, share
from kseq.short_help import ShortHelp

EPSILON = 1e-5  # of layer normalisation


class TransformerBlock(keras.layers.Layer, metaclass=ShortHelp):
    """Base class of Transformer layers: residual parts with layer normalisation and dropout.

    The arguments are explained in `TransformerEncoderLayer`.
    """

    def __init__(
        self,
        num_heads: int,
        intermediate_dim: int,
        *,
        activation: Activation = "relu",
        norm_first: bool = False,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        num_kv_heads: int | None = None,
        positions: Positions | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads = positive_int(self, "num_heads", num_heads)
        self.norm_first, self.positions = flag("norm_first", norm_first), positions
        self.dropout = share(self, "dropout", dropout)
        self.attention_dropout = share(self, "attention_dropout", attention_dropout)
        self.num_kv_heads = None if num_kv_heads is None else positive_int(self, "num_kv_heads", num_kv_heads)
        self.seed = plain_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(self.seed) if self.dropout else None
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.feed_forward = FeedForward(intermediate_dim, activation, name="feed_forward", **options)
        self.attention_norm = self._norm("attention_norm")
        self.feed_forward_norm = self._norm("feed_forward_norm")
        # Made here to check its options; the heads' size follows from the values, so `build` makes another one.
        MultiHeadAttention(self.num_heads, 2, num_kv_heads=num_kv_heads, positions=positions)
        self.supports_masking = True

    def _norm(self, name: str) -> keras.layers.LayerNormalization:
        return keras.layers.LayerNormalization(
            epsilon=EPSILON, dtype=self.dtype_policy, trainable=self.trainable, name=name
        )

    def _attention(self, dim: int | None, place: int, name: str, **options: Any) -> MultiHeadAttention:
        """Return a new attention for values of a size, with a seed of its own."""
        if dim is None or dim % self.num_heads:
            raise ValueError(
                f"{type(self).__name__} divides the values among num_heads={self.num_heads} heads, but their last axis "
                f"has the size {dim}. Give values with a static multiple of it, or another num_heads."
            )
        return MultiHeadAttention(
            self.num_heads,
            dim // self.num_heads,
            num_kv_heads=self.num_kv_heads,
            dropout=self.attention_dropout,
            seed=None if self.seed is None else self.seed + place,
            dtype=self.dtype_policy,
            trainable=self.trainable,
            name=name,
            **options,
        )

    def _read_mask(self, values: Tensor, mask: Tensor | None, name: str = "mask") -> Tensor | None:
        """Return the mask of values `(batch, time, dim)`, their implicit one if none is given."""
        refuse_ragged(values, type(self).__name__)
        if len(values.shape) != 3:
            raise ValueError(
                f"{type(self).__name__} needs sequences of shape (batch, time, dim), but got {tuple(values.shape)}."
            )
        return check_mask(implicit_mask(values) if mask is None else mask, values, name=name)

    def _residual(
        self, values: Tensor, norm: Callable, part: Callable[[Tensor], Tensor], training: bool | None
    ) -> Tensor:
        """Add a part's outputs to its inputs, with the normalisation before the part or after the sum."""
        if self.norm_first:
            return values + self._dropped(part(norm(values)), training)
        return norm(values + self._dropped(part(values), training))

    def _dropped(self, values: Tensor, training: bool | None) -> Tensor:
        return drop(values, self.dropout, self.seed_generator, training)

    def _with_mask(self, outputs: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            set_implicit_mask(outputs, mask)
        return outputs

    def _start(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """Return the values without padding, which could be NaN, in the compute dtype."""
        return zero_padding(ops.cast(values, self.compute_dtype), mask)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "intermediate_dim": self.feed_forward.intermediate_dim,
            "activation": self.feed_forward.activation,
            "norm_first": self.norm_first,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "num_kv_heads": self.num_kv_heads,
            "positions": self.positions,
            "seed": self.seed,
        }


def drop(values: Tensor, rate: float, seed_generator: Any, training: bool | None) -> Tensor:
    """Return the values with a share of them dropped in training, by random numbers that are fast under XLA too."""
    if not training or not rate:
        return values
    return values * dropout_mask(values, rate, seed_generator)
