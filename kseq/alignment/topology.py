"""Topologies: the sets of allowed alignments between labels and frames.

A topology turns the labels of a row into a lattice: a chain of states, each of which emits one class per frame, with
arcs from a state to itself and to a few states after it. An alignment is a path along the arcs with one state per
frame. It begins in the state `first`, before the first frame, and ends in the state `last`, after the last frame. A row
without frames has an alignment only if it has no labels.

To add a topology, subclass `Topology` and define `lattice` and `label_of_state`, and `collect` if several states emit
the same symbol.
"""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from kseq.backend import Tensor


class Arc(NamedTuple):
    """All arcs that lead `offset` states ahead from one frame to the next.

    Attributes:
        offset: Number of states ahead; 0 stays.
        allowed: Bool `(batch, states)`, True at states that may be *reached* by such an arc; None if all may.
    """

    offset: int
    allowed: Tensor | None = None


class Lattice(NamedTuple):
    """The states of a batch of labels and the arcs between them.

    Attributes:
        symbols: int32 `(batch, symbols)`, the emitted classes; the same class may occur as several symbols.
        emitted: NumPy int or int32 `(states,)`, the index in `symbols` that each state emits.
        silent: Bool `(batch, states)`, True at states that cover no frame; None if there are none.
        first: int32 `(batch,)`, the state before the first frame.
        last: int32 `(batch,)`, the state after the last frame.
        arcs: The arcs, one per offset, in increasing order.
    """

    symbols: Tensor
    emitted: np.ndarray | Tensor
    silent: Tensor | None
    first: Tensor
    last: Tensor
    arcs: tuple[Arc, ...]


class Topology:
    """Base class of topologies: immutable, serialisable values."""

    blank_index: int | None = None  # a class that labels must not use; negative values count from the last class
    hidden: int = 0  # number of states at each end of the lattice that cover no frame and are left out of results

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Topology":
        """Make a topology from `get_config`."""
        return cls(**config)

    def lattice(self, labels: Tensor, label_lengths: Tensor) -> Lattice:
        """Return the lattice of labels int32 `(batch, max_labels)`, zero in the padding; `max_labels` is at least 1.

        States of padding labels may have any arcs, except to the state `last`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define lattice(labels, label_lengths).")

    def label_of_state(self, states: Tensor) -> Tensor:
        """Return the index of the label of each of the int32 `states`; -1 for states without one, such as blanks.

        The `hidden` states are not counted.
        """
        raise NotImplementedError(f"{type(self).__name__} must define label_of_state(states).")

    def collect(self, states: Tensor) -> Tensor:
        """Return values of states `(..., states)` summed by symbol, `(..., symbols)`."""
        return states


def only(place: Tensor, width: int | Tensor) -> Tensor:
    """Return bool `(batch, width)`, True at index `place` of each row, int32 `(batch,)`; all False if out of range."""
    return ops.arange(width, dtype="int32")[None, :] == place[:, None]


def widened(arcs: tuple[Arc, ...], values: Tensor, fill: float) -> Tensor:
    """Return `values` `(batch, states)` with `fill` before them, `(batch, farthest arc + states)`."""
    return ops.pad(values, [[0, 0], [arcs[-1].offset, 0]], constant_values=fill)


def along(arcs: tuple[Arc, ...], wide: Tensor) -> list[Tensor]:
    """Return, for each arc, the values at the states it comes from, `(batch, states)`.

    Args:
        arcs: The arcs of a lattice.
        wide: Values of states as `widened` returns them, `(batch, farthest arc + states)`.
    """
    farthest = arcs[-1].offset
    states = ops.shape(wide)[1] - farthest
    return [wide[:, farthest - arc.offset : farthest - arc.offset + states] for arc in arcs]


def mirrored(lattice: Lattice) -> Lattice:
    """Return the lattice of the reversed paths, with the states in reverse order.

    With it, backward recursions read earlier states as forward ones do: XLA vectorises arrays that are padded at the
    front, but not at the end.
    """
    end = ops.shape(lattice.emitted)[0] - 1

    def turned(arc: Arc) -> Arc:
        if arc.allowed is None:
            return arc
        return arc._replace(allowed=widened((arc,), ops.flip(arc.allowed, 1), False)[:, : end + 1])

    return Lattice(
        symbols=lattice.symbols,
        emitted=lattice.emitted[::-1],
        silent=None if lattice.silent is None else ops.flip(lattice.silent, 1),
        first=end - lattice.last,
        last=end - lattice.first,
        arcs=tuple(turned(arc) for arc in lattice.arcs),
    )


def starts(lattice: Lattice) -> Tensor:
    """Return bool `(batch, states)`, True at the possible states of the first frame."""
    first = only(lattice.first, ops.shape(lattice.emitted)[0])
    reached = along(lattice.arcs, widened(lattice.arcs, ops.cast(first, "int32"), 0))
    found = ops.zeros_like(first)
    for arc, there in zip(lattice.arcs, reached, strict=True):
        there = there > 0
        found = ops.logical_or(found, there if arc.allowed is None else ops.logical_and(there, arc.allowed))
    return found
