"""What a topology is: which alignments of frames to labels there are.

A topology turns the labels of a row into a lattice: a chain of states, each of which emits a class in every frame that
it holds, and arcs from a state to itself and to the few after it. An alignment is a path along the arcs, one state a
frame, from a state where it may start to one where it may end. No frames at all align with no labels, and with nothing
else.

A topology of one's own is one class: `lattice`, `label_of_state`, and if several states emit the same symbol
`spread` and `collect`.
"""

from typing import NamedTuple

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
        symbols: int32 `(batch, symbols)`, the classes that the states emit. Several states may emit one symbol
            (see `Topology.spread`), and a class may be several symbols.
        start: Bool `(batch, states)`, where an alignment may start.
        end: Bool `(batch, states)`, where it may end.
        arcs: The arcs, each offset once, the smallest first.
    """

    symbols: Tensor
    start: Tensor
    end: Tensor
    arcs: tuple[Arc, ...]


class Topology:
    """Base class of topologies: small values that losses share and configurations hold."""

    blank_index: int | None = None  # a class that no label may be; negative ones count from the last

    def lattice(self, labels: Tensor, label_lengths: Tensor) -> Lattice:
        """Return the lattice of labels int32 `(batch, max_labels)`, zero in the padding; `max_labels` is at least 1.

        States of the padding may lead anywhere, but not end.
        """
        raise NotImplementedError(f"{type(self).__name__} must define lattice(labels, label_lengths).")

    def label_of_state(self, states: Tensor) -> Tensor:
        """Return which label, from 0, each of the int32 `states` belongs to; -1 where it is none."""
        raise NotImplementedError(f"{type(self).__name__} must define label_of_state(states).")

    def spread(self, symbols: Tensor) -> Tensor:
        """Return what each state has, `(..., states)`, of what each symbol has, `(..., symbols)`."""
        return symbols

    def collect(self, states: Tensor) -> Tensor:
        """Return what the states of each symbol have together, `(..., symbols)`, of `(..., states)`."""
        return states


def only(place: Tensor, width: int | Tensor) -> Tensor:
    """Return bool `(batch, width)`, True at one `place` of each row, int32 `(batch,)`; nowhere if it is outside."""
    return ops.arange(width, dtype="int32")[None, :] == place[:, None]


def along(arcs: tuple[Arc, ...], values: Tensor, fill: float, *, reverse: bool) -> list[Tensor]:
    """Return what each state has at the other end of its arcs, a tensor for each arc; `fill` where there is no end.

    Args:
        arcs: The lattice's.
        values: `(batch, states)`.
        fill: What to find outside the lattice.
        reverse: Look at the states that the arcs lead to, instead of those that they come from.
    """
    farthest, states = max(arc.offset for arc in arcs), ops.shape(values)[1]
    padding = [0, farthest] if reverse else [farthest, 0]
    padded = ops.pad(values, [[0, 0], padding], constant_values=fill)
    starts = [arc.offset if reverse else farthest - arc.offset for arc in arcs]
    return [padded[:, start : start + states] for start in starts]


def allowed_along(arcs: tuple[Arc, ...], *, reverse: bool) -> list[Tensor | None]:
    """Return for each arc bool `(batch, states)`, whether it may be taken from there, as `along` looks; None if always."""
    return [
        arc.allowed if arc.allowed is None or not reverse else along((arc,), arc.allowed, False, reverse=True)[0]
        for arc in arcs
    ]
