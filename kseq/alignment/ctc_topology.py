"""Connectionist temporal classification: labels with a blank between, before and after them."""

import dataclasses
from typing import Any

import keras
from keras import ops

from kseq.alignment.topology import Arc, Lattice, Topology, only
from kseq.backend import Tensor


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True)
class CTCTopology(Topology):
    """Each label holds one frame or more; blanks may stand around it, and must between two equal labels.

    State 2j + 1 is label j, and state 2j the blank before it: 2 * max_labels + 1 states. A blank that stands between
    different labels may be left out.

    Args:
        blank_index: The class that is the blank; -1 is the last class.

    Reference: A. Graves, S. Fernandez, F. Gomez, J. Schmidhuber, "Connectionist temporal classification: labelling
    unsegmented sequence data with recurrent neural networks", 2006.
    """

    blank_index: int = 0

    def lattice(self, labels: Tensor, label_lengths: Tensor) -> Lattice:
        """Return the lattice: stay, go to the next state, or from a label past a blank to a different label."""
        batch, count = ops.shape(labels)
        states = 2 * count + 1
        blank = ops.full((batch, 1), self.blank_index, dtype=labels.dtype)
        differs = ops.concatenate([ops.zeros((batch, 1), "bool"), labels[:, 1:] != labels[:, :-1]], axis=1)
        last_label = ops.where(label_lengths > 0, 2 * label_lengths - 1, 0)
        return Lattice(
            symbols=ops.concatenate([blank, labels], axis=1),
            start=ops.broadcast_to(ops.arange(states)[None, :] < 2, (batch, states)),
            end=ops.logical_or(only(2 * label_lengths, states), only(last_label, states)),
            arcs=(Arc(0), Arc(1), Arc(2, _interleave(ops.zeros((batch, count + 1), "bool"), differs))),
        )

    def label_of_state(self, states: Tensor) -> Tensor:
        """Return the label of odd states, -1 of the blanks."""
        return ops.where(states % 2 == 1, states // 2, -1)

    def spread(self, symbols: Tensor) -> Tensor:
        """Put the blank, which is the first symbol, around each of the others."""
        count = ops.shape(symbols)[-1]
        blank, labels = symbols[..., :1], symbols[..., 1:]
        return _interleave(ops.broadcast_to(blank, (*ops.shape(symbols)[:-1], count)), labels)

    def collect(self, states: Tensor) -> Tensor:
        """Add up the blanks."""
        blank = ops.sum(states[..., ::2], axis=-1, keepdims=True)
        return ops.concatenate([blank, states[..., 1::2]], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"blank_index": self.blank_index}


def _interleave(even: Tensor, odd: Tensor) -> Tensor:
    """Return `(..., 2n + 1)` of the `(..., n + 1)` at even places and the `(..., n)` at odd ones."""
    *rest, count = ops.shape(odd)
    pairs = ops.reshape(ops.stack([even[..., :-1], odd], axis=-1), (*rest, 2 * count))
    return ops.concatenate([pairs, even[..., -1:]], axis=-1)
