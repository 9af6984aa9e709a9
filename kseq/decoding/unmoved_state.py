"""Unmoved states: parts of a step's state that stay where they are when the hypotheses of a beam are reordered.

A Transformer's cache that is reordered as other states are is copied whole at every step, which takes as long as the
rest of the step. An unmoved cache is never copied. The past of a hypothesis then stands partly in its own place in the
beam and partly in the places of the hypotheses that it continues. A small ordinary state, which is reordered, records
the place of each position, and the step attends to the cache of the whole beam through a mask.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import Nest


class UnmovedState(NamedTuple):
    """A part of a step's state that beam searches do not reorder.

    Its second axis holds one block of size n for each place in the beam, such as n = the number of heads. In a beam
    search there are as many places as a row has hypotheses, and hypothesis i writes into place i. Everywhere else
    (greedy search, sampling, scoring ...) each row of the state is one hypothesis and has one place.

    Attributes:
        values: `(batch, places * n, ...)`; in the initial state there is one place.

    Example:
        >>> def step(tokens, state):  # heads, capacity and dim are the cache's
        ...     cache, places, position = state["cache"].values, state["places"], ops.max(state["position"])
        ...     beam = cache.shape[1] // heads
        ...     places, seen = look_back(places, position, beam)  # (rows, capacity), (batch, beam, beam, capacity)
        ...     new = ops.reshape(keys_of(tokens), (-1, beam * heads, 1, dim))
        ...     cache = ops.slice_update(cache, (0, 0, position, 0), new)
        ...     # attend to (batch, beam * heads, capacity, dim), the softmax being over places and positions together
        ...     return logits, {"cache": UnmovedState(cache), "places": places, "position": state["position"] + 1}
        >>> state = {
        ...     "cache": UnmovedState(ops.zeros((batch, heads, capacity, dim))),
        ...     "places": ops.zeros((batch, capacity), "int32"),
        ...     "position": ops.zeros((batch,), "int32"),
        ... }
    """

    values: Tensor


InPlace = UnmovedState  # the name in earlier versions


def look_back(places: Tensor, position: Tensor, beam: int) -> tuple[Tensor, Tensor]:
    """Record that each hypothesis writes into its own place at `position`, and return where its past stands.

    Args:
        places: int32 `(rows, capacity)`, an ordinary state: for each hypothesis and position, the place whose cache
            holds it; zeros at first. Rows are batch x beam.
        position: int32 scalar, the number of tokens read before.
        beam: The number of places.

    Returns:
        The new `places`, and which parts of the beam's cache each hypothesis may attend to, `position` included:
        bool `(batch, beam, beam, capacity)`, by place, hypothesis and position.
    """
    rows, capacity = ops.shape(places)
    positions = ops.arange(capacity, dtype="int32")
    own = ops.arange(rows, dtype="int32") % beam
    places = ops.where(positions == position, own[:, None], places)
    by_place = ops.reshape(places, (rows // beam, 1, beam, capacity)) == ops.arange(beam, dtype="int32")[:, None, None]
    return places, ops.logical_and(by_place, positions <= position)


def spread_rows(nest: Nest, beam: int) -> Nest:
    """Return states `(batch, ...)` for `beam` hypotheses of each row.

    Ordinary states become `(batch * beam, ...)`; unmoved ones get `beam` places.
    """

    def spread(values: Tensor) -> Tensor:
        return ops.tile(values, (1, beam, *[1] * (len(values.shape) - 2)))

    return _map(lambda x: ops.repeat(x, beam, axis=0), spread, nest)


def take_rows(nest: Nest, hypotheses: Tensor) -> Nest:
    """Reorder states `(batch * beam, ...)` by `hypotheses`, int32 `(batch, beam)`, each within its own row."""
    batch, beam = ops.shape(hypotheses)
    rows = ops.arange(batch, dtype="int32")[:, None] * beam + hypotheses  # (batch, beam)
    rows = ops.reshape(rows, (batch * beam,))
    return _map(lambda x: ops.take(x, rows, axis=0), lambda values: values, nest)


def _map(ordinary: Callable, unmoved: Callable, nest: Nest) -> Nest:
    """Return `nest` with `ordinary` applied to its tensors, and `unmoved` to the values of its unmoved states."""

    def visit(part: Nest) -> Nest:
        if isinstance(part, UnmovedState):
            return UnmovedState(unmoved(part.values))
        return None if keras.tree.is_nested(part) else ordinary(part)

    return keras.tree.traverse(visit, nest)
