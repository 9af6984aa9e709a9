"""The order-synchronous topology: labels in order, without a blank."""

import dataclasses
from typing import Any

import keras
from keras import ops

from kseq.alignment.topology import Arc, Lattice, Topology, only
from kseq.backend import Tensor


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True)
class OrderSynchronous(Topology):
    """Topology without blanks: each label covers one frame or more, and every frame belongs to a label.

    State j is label j. Internally the lattice has one more state at each end; these cover no frame.

    Reference: L. Rabiner, "A tutorial on hidden Markov models and selected applications in speech recognition", 1989
    (its left-to-right model, without transition probabilities).
    """

    hidden = 1

    def lattice(self, labels: Tensor, label_lengths: Tensor) -> Lattice:
        """Return the lattice: arcs stay or go to the next label."""
        symbols = ops.pad(labels, [[0, 0], [1, 1]])
        states = ops.shape(symbols)[1]
        before, after = ops.zeros_like(label_lengths), label_lengths + 1
        return Lattice(
            symbols=symbols,
            emitted=ops.arange(states, dtype="int32"),
            silent=ops.logical_or(only(before, states), only(after, states)),
            first=before,
            last=after,
            arcs=(Arc(0), Arc(1)),
        )

    def label_of_state(self, states: Tensor) -> Tensor:
        """Return `states` unchanged: state j is label j."""
        return states

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {}
