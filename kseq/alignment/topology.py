"""What a topology is: which alignments of frames to labels there are.

A topology turns the labels of a row into a lattice: a chain of states, each of which emits a class in every frame that
it holds, and arcs from a state to itself and to the few after it. An alignment is a path along the arcs, one state a
frame, from the state that the row is in before its first frame to the one that it is in after its last. No frames at
all align with no labels, and with nothing else.

A topology of one's own is one class: `lattice`, `label_of_state`, and `collect` if several states emit the same symbol.
"""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from kseq.backend import Tensor


class Arc(NamedTuple):
    """The arcs that lead `offset` states ahead, in one frame.

    Attributes:
        offset: How many states ahead: 0 stays.
        allowed: Bool `(batch, states)`, True where the state may be *reached* so; None where all may.
    """

    offset: int
    allowed: Tensor | None = None


class Lattice(NamedTuple):
    """The states of a batch of labels, and how they follow each other.

    Attributes:
        symbols: int32 `(batch, symbols)`, the classes that there are to emit; a class may be several symbols.
        emitted: NumPy int or int32 `(states,)`, which symbol each state emits.
        silent: Bool `(batch, states)`, True where no frame may be; None if all states hold frames.
        first: int32 `(batch,)`, the state before the first frame.
        last: int32 `(batch,)`, the state after the last frame.
        arcs: The arcs, each offset once, the smallest first.
    """

    symbols: Tensor
    emitted: np.ndarray | Tensor
    silent: Tensor | None
    first: Tensor
    last: Tensor
    arcs: tuple[Arc, ...]


class Topology:
    """Base class of topologies: small values that losses share and configurations hold."""

    blank_index: int | None = None  # a class that no label may be; negative ones count from the last
    hidden: int = 0  # how many states at either end of the lattice hold no frame, and are not shown

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Topology":
        """Make a topology from `get_config`."""
        return cls(**config)

    def lattice(self, labels: Tensor, label_lengths: Tensor) -> Lattice:
        """Return the lattice of labels int32 `(batch, max_labels)`, zero in the padding; `max_labels` is at least 1.

        States of the padding may lead anywhere, but not to the last.
        """
        raise NotImplementedError(f"{type(self).__name__} must define lattice(labels, label_lengths).")

    def label_of_state(self, states: Tensor) -> Tensor:
        """Return which label, from 0, each of the int32 `states` belongs to; -1 where it is none.

        States are counted without those that are hidden.
        """
        raise NotImplementedError(f"{type(self).__name__} must define label_of_state(states).")

    def collect(self, states: Tensor) -> Tensor:
        """Return what the states of each symbol have together, `(..., symbols)`, of `(..., states)`."""
        return states


def only(place: Tensor, width: int | Tensor) -> Tensor:
    """Return bool `(batch, width)`, True at one `place` of each row, int32 `(batch,)`; nowhere if it is outside."""
    return ops.arange(width, dtype="int32")[None, :] == place[:, None]


def widened(arcs: tuple[Arc, ...], values: Tensor, fill: float) -> Tensor:
    """Return `values` `(batch, states)` with `fill` before them, `(batch, farthest arc + states)`."""
    return ops.pad(values, [[0, 0], [arcs[-1].offset, 0]], constant_values=fill)


def along(arcs: tuple[Arc, ...], wide: Tensor) -> list[Tensor]:
    """Return what stands, in values as `widened` returns them, where each arc to a state comes from.

    Returns:
        For each arc `(batch, states)`.
    """
    farthest = arcs[-1].offset
    states = ops.shape(wide)[1] - farthest
    return [wide[:, farthest - arc.offset : farthest - arc.offset + states] for arc in arcs]


def mirrored(lattice: Lattice) -> Lattice:
    """Return the lattice of all paths backwards, its last state the first.

    All recursions so look at states before their own: XLA vectorises what is padded in front, but not at the end.
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
    """Return bool `(batch, states)`, True at the states that the first frame may be in."""
    first = only(lattice.first, ops.shape(lattice.emitted)[0])
    reached = along(lattice.arcs, widened(lattice.arcs, ops.cast(first, "int32"), 0))
    found = ops.zeros_like(first)
    for arc, there in zip(lattice.arcs, reached, strict=True):
        there = there > 0
        found = ops.logical_or(found, there if arc.allowed is None else ops.logical_and(there, arc.allowed))
    return found
