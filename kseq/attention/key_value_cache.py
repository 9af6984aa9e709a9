"""The keys and values of the positions that self-attention has read, and attention to them."""

from typing import NamedTuple

import keras
from keras import ops

from kseq.attention.masked_softmax import SCORE_ZERO
from kseq.backend import Tensor, known_value, write_position


class KeyValueCache(NamedTuple):
    """The past of a self-attention that runs position by position, with room for `max_length` positions.

    Attributes:
        keys: `(batch, kv_heads, max_length, key_dim)`.
        values: `(batch, kv_heads, max_length, value_dim)`.
        position: int32 `(batch,)`, the number of positions read, the same in all rows.

    In a beam search, a cache that is not moved with the hypotheses (`kseq.decoding.UnmovedState`) has a block of
    `kv_heads` for each place in the beam, `(batch, places * kv_heads, ...)`, and the position has a row for each
    hypothesis.
    """

    keys: Tensor
    values: Tensor
    position: Tensor


def write(cache: KeyValueCache, keys: Tensor, values: Tensor) -> tuple[KeyValueCache, Tensor]:
    """Return the cache with one more position, and the number of that position, an int32 scalar.

    Args:
        cache: The cache.
        keys: `(rows, kv_heads, 1, key_dim)`; rows = batch x places.
        values: `(rows, kv_heads, 1, value_dim)`.

    Raises:
        ValueError: If the cache is known to be full. In a graph, the last position is then written over.
    """
    room, position = cache.keys.shape[2], ops.max(cache.position, initial=0)
    known = known_value(position)
    if known is not None and known >= room:
        raise ValueError(
            f"The cache has room for {room} positions, and all of them are written. Make one with room for the whole "
            "text: cache(batch, max_length)."
        )
    place = ops.minimum(position, room - 1)

    def written(old: Tensor, new: Tensor) -> Tensor:
        new = ops.reshape(ops.cast(new, old.dtype), (ops.shape(old)[0], old.shape[1], 1, old.shape[3]))
        return write_position(old, new, place, axis=2)

    new = KeyValueCache(written(cache.keys, keys), written(cache.values, values), cache.position + 1)
    return new, position


def attend_to_cache(
    query: Tensor, cache: KeyValueCache, kv_heads: int, seen: Tensor, distances: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attend from one position of each hypothesis to the caches of all places in its beam.

    Args:
        query: `(rows, heads, 1, key_dim)`, scaled; rows = batch x places.
        cache: The cache, with that position.
        kv_heads: Number of heads of keys and values in a place.
        seen: Bool `(batch, places, places, max_length)`, by place, hypothesis and position: where the past of each
            hypothesis stands.
        distances: `(rows, heads, 1, max_length)`, added to the scores, or None.

    Returns:
        `(context, weights)`: context `(rows, heads, 1, value_dim)`; weights `(rows, heads, 1, max_length)`, float32 or
        float64, the sum over the places.
    """
    places, room = cache.keys.shape[1] // kv_heads, cache.keys.shape[2]
    batch, (heads, key_dim) = ops.shape(cache.keys)[0], (query.shape[1], query.shape[3])
    repeats, value_dim = heads // kv_heads, cache.values.shape[3]
    of_place = (batch, places, kv_heads, room)

    def by_head(values: Tensor) -> Tensor:
        """Return `(rows, heads, 1, n)` as `(batch, 1, kv_heads, places * repeats, n)`."""
        split = ops.reshape(values, (batch, places, kv_heads, repeats, values.shape[3]))
        return ops.reshape(
            ops.transpose(split, (0, 2, 1, 3, 4)), (batch, 1, kv_heads, places * repeats, values.shape[3])
        )

    keys = ops.swapaxes(ops.reshape(cache.keys, (*of_place, key_dim)), 3, 4)
    scores = ops.matmul(by_head(query), keys)  # (batch, places, kv_heads, places * repeats, room)
    if distances is not None:
        scores = scores + by_head(distances)
    scores = ops.reshape(scores, (batch, places, kv_heads, places, repeats, room))
    weights = _softmax(ops.where(seen[:, :, None, :, None], _precise(scores), SCORE_ZERO))
    flat = ops.reshape(ops.cast(weights, cache.values.dtype), (batch, places, kv_heads, places * repeats, room))
    context = ops.matmul(flat, ops.reshape(cache.values, (*of_place, value_dim)))

    def by_row(values: Tensor) -> Tensor:
        """Return the sum over the places of `(batch, places, kv_heads, places, repeats, n)`, `(rows, heads, 1, n)`."""
        summed = values[:, 0] if places == 1 else ops.sum(values, axis=1)
        return ops.reshape(ops.transpose(summed, (0, 2, 1, 3, 4)), (batch * places, heads, 1, values.shape[5]))

    return by_row(ops.reshape(context, (batch, places, kv_heads, places, repeats, value_dim))), by_row(weights)


def _precise(scores: Tensor) -> Tensor:
    return ops.cast(scores, keras.backend.result_type(scores.dtype, "float32"))


def _softmax(scores: Tensor) -> Tensor:
    """Return the softmax over places and positions, the axes 1 and 5; each hypothesis has seen some."""
    exponentials = ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=(1, 5), keepdims=True)))
    return exponentials / ops.sum(exponentials, axis=(1, 5), keepdims=True)
