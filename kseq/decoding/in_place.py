"""States that are too large to be reordered: what they hold stays where it was written, and hypotheses say where.

A Transformer's cache, reordered at every step as other states are, is copied whole at every step, which takes as long
as the rest of the step. Left in place, nothing of it moves: a hypothesis's past stands partly in its own place in the
beam and partly in those of the hypotheses that it has continued. It remembers in which, as a small state that is
reordered, and attends to the whole beam's cache through a mask.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import Nest


class InPlace(NamedTuple):
    """A part of a step's state that beam searches do not reorder.

    Its second axis holds places one after the other, each of the same length n, such as a number of heads. A step gets
    as many places as a row's beam has hypotheses, hypothesis i writing into place i; every other driver, which follows
    hypotheses one by one or reorders rows for itself, gives one place, that of the row.

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
        ...     return logits, {"cache": InPlace(cache), "places": places, "position": state["position"] + 1}
        >>> state = {
        ...     "cache": InPlace(ops.zeros((batch, heads, capacity, dim))),
        ...     "places": ops.zeros((batch, capacity), "int32"),
        ...     "position": ops.zeros((batch,), "int32"),
        ... }
    """

    values: Tensor


def look_back(places: Tensor, position: Tensor, beam: int) -> tuple[Tensor, Tensor]:
    """Note that each hypothesis writes into its own place at `position`, and return where its past stands.

    Args:
        places: int32 `(rows, capacity)`, an ordinary state: in whose place stands what each hypothesis has read at each
            position; zeros at first. Rows are batch x beam.
        position: int32 scalar, the number of tokens read before.
        beam: How many places there are.

    Returns:
        The new `places`, and which of what the beam has written each hypothesis may look at, `position` included:
        bool `(batch, beam, beam, capacity)`, by place, hypothesis and position.
    """
    rows, capacity = ops.shape(places)
    positions = ops.arange(capacity, dtype="int32")
    own = ops.arange(rows, dtype="int32") % beam
    places = ops.where(positions == position, own[:, None], places)
    by_place = ops.reshape(places, (rows // beam, 1, beam, capacity)) == ops.arange(beam, dtype="int32")[:, None, None]
    return places, ops.logical_and(by_place, positions <= position)


def spread_rows(nest: Nest, beam: int) -> Nest:
    """Return states `(batch, ...)` as those of `beam` hypotheses of each row: `(batch * beam, ...)`, or more places."""

    def spread(values: Tensor) -> Tensor:
        return ops.tile(values, (1, beam, *[1] * (len(values.shape) - 2)))

    return _map(lambda x: ops.repeat(x, beam, axis=0), spread, nest)


def take_rows(nest: Nest, hypotheses: Tensor) -> Nest:
    """Reorder states `(batch * beam, ...)` by `hypotheses`, int32 `(batch, beam)`, each within its own row."""
    batch, beam = ops.shape(hypotheses)
    rows = ops.arange(batch, dtype="int32")[:, None] * beam + hypotheses  # (batch, beam)
    rows = ops.reshape(rows, (batch * beam,))
    return _map(lambda x: ops.take(x, rows, axis=0), lambda values: values, nest)


def _map(function: Callable, in_place: Callable, nest: Nest) -> Nest:
    """Return `nest` with `function` of its tensors, and `in_place` of those that stay in place."""

    def visit(part: Nest) -> Nest:
        if isinstance(part, InPlace):
            return InPlace(in_place(part.values))
        return None if keras.tree.is_nested(part) else function(part)

    return keras.tree.traverse(visit, nest)
