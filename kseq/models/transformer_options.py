"""Options that a Transformer's encoder and decoder share."""

import math
from typing import Any, Literal, get_args

import keras

from kseq.backend import Tensor
from kseq.layers import LearnedPositionalEmbedding, SinusoidalPositionalEncoding
from kseq.layers.transformer_block import EPSILON
from kseq.numbers import positive_int

ModelPositions = Literal["sinusoidal", "learned", "rotary", "relative"]
OF_ATTENTION = ("rotary", "relative")


def positions_layer(
    owner: Any, positions: ModelPositions | None, max_length: int | None
) -> SinusoidalPositionalEncoding | LearnedPositionalEmbedding | None:
    """Return the layer that adds positions to embeddings; None if there are none, or the attention knows them.

    Raises:
        ValueError: If `positions` is unknown.
    """
    if positions not in (None, *get_args(ModelPositions)):
        raise ValueError(f"positions={positions!r}, but it must be None or one of {get_args(ModelPositions)}.")
    if positions == "sinusoidal":
        return SinusoidalPositionalEncoding(dtype=owner.dtype_policy)
    if positions == "learned":
        length = positive_int(owner, "max_length", max_length)
        initializer = keras.initializers.RandomNormal(stddev=0.02)
        return LearnedPositionalEmbedding(length, initializer=initializer, dtype=owner.dtype_policy)
    return None


def layers_of_stack(
    owner: Any, kind: Any, num_heads: int, intermediate_dim: int | None, **options: Any
) -> list[keras.layers.Layer]:
    """Return the layers of a Transformer's encoder or decoder.

    Args:
        owner: The encoder or decoder, with its `units`, `num_layers`, `dropout` and `positions`.
        kind: The class of the layers.
        num_heads: Number of attention heads.
        intermediate_dim: Size of the values inside the feed-forward parts; None: four times the units.
        **options: Other arguments of the class.
    """
    intermediate_dim = 4 * owner.units if intermediate_dim is None else intermediate_dim
    positions = owner.positions if owner.positions in OF_ATTENTION else None
    options |= {"dropout": owner.dropout, "positions": positions, "dtype": owner.dtype_policy}
    return [kind(num_heads, intermediate_dim, **options) for _ in range(owner.num_layers)]


def last_norm(owner: Any, norm_first: bool) -> keras.layers.LayerNormalization | None:
    """Return the normalisation after the last layer, which layers with `norm_first` need, or None."""
    return keras.layers.LayerNormalization(epsilon=EPSILON, dtype=owner.dtype_policy) if norm_first else None


def start_embedding(embedding: keras.layers.Embedding) -> None:
    """Have an embedding that is not built draw vectors of length 1 on average, which `scaled` brings to the size 1."""
    embedding.embeddings_initializer = keras.initializers.RandomNormal(stddev=embedding.output_dim**-0.5)


def scaled(embedded: Tensor) -> Tensor:
    """Return embeddings multiplied by the root of their size, so that positions do not outweigh them."""
    return embedded * math.sqrt(embedded.shape[-1])


def config_of_stack(owner: Any) -> dict[str, Any]:
    """Return the arguments of a Transformer's encoder or decoder that describe its layers."""
    of_layer = owner.layers[0].get_config()
    names = ("num_heads", "intermediate_dim", "activation", "norm_first", "attention_dropout", "num_kv_heads")
    return {
        **{name: of_layer[name] for name in names},
        **{name: getattr(owner, name) for name in ("num_layers", "dropout", "positions", "max_length")},
    }
