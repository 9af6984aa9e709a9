"""The cache of a stack of Transformer layers that reads or writes position by position."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

from kseq.attention import KeyValueCache
from kseq.backend import Tensor
from kseq.decoding import UnmovedState, look_back
from kseq.layers import TransformerDecoderLayer


class TransformerState(NamedTuple):
    """The state that a decoding step updates.

    Attributes:
        caches: For each layer the keys and the values of the tokens read, two `UnmovedState` that beams do not move,
            `(batch, places * kv_heads, room, head size)`.
        places: int32 `(rows, room)`: for each hypothesis and position, the place in the beam whose caches hold it.
        position: int32 `(rows,)`, the number of tokens read, the same in all rows.
    """

    caches: tuple
    places: Tensor
    position: Tensor


def room_of(max_length: int) -> int:
    """Return the number of positions that a search reads: the begin token, and all that it writes.

    It reads the last token only to compare it with others (contrastive search).
    """
    return max_length + 1


def empty_state(layers: Sequence[TransformerDecoderLayer], batch: int | Tensor, max_length: int) -> TransformerState:
    """Return the state before the first token, with room for a search for `max_length` tokens; layers must be built."""
    room = room_of(max_length)
    caches = [layer.cache(batch, room) for layer in layers]
    return TransformerState(
        tuple((UnmovedState(cache.keys), UnmovedState(cache.values)) for cache in caches),
        ops.zeros((batch, room), dtype="int32"),
        ops.zeros((batch,), dtype="int32"),
    )


def position_of(state: TransformerState) -> Tensor:
    """Return the number of tokens read, an int32 scalar."""
    return ops.max(state.position, initial=0)


def step_layers(
    layers: Sequence[TransformerDecoderLayer], values: Tensor, state: TransformerState, memories: Sequence[Any]
) -> tuple[Tensor, TransformerState, Tensor | None]:
    """Run layers at the next position.

    Args:
        layers: The layers, lowest first.
        values: Float `(rows, dim)`, the embeddings with their positions; rows = batch x hypotheses.
        state: The state before the position.
        memories: For each layer the `kseq.attention.Memory` of the source; None for a layer that reads no source.

    Returns:
        `(values, state, weights)`: values `(rows, dim)`, the new state, and the weights on the source of the last
        layer, `(rows, source time)` or None.
    """
    beam = state.caches[0][0].values.shape[1] // layers[0].self_attention.num_kv_heads
    places, seen = look_back(state.places, position_of(state), beam)
    caches, weights = [], None
    for layer, (keys, of_keys), memory in zip(layers, state.caches, memories, strict=True):
        cache = KeyValueCache(keys.values, of_keys.values, state.position)
        values, weights, cache = layer.step(values, cache, memory, seen=seen)
        caches.append((UnmovedState(cache.keys), UnmovedState(cache.values)))
    return values, TransformerState(tuple(caches), places, state.position + 1), weights
