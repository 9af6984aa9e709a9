"""The topology of connectionist temporal classification (CTC): labels with optional blanks around them."""

import dataclasses
from typing import Any

import keras
from keras import ops

from kseq.alignment.topology import Arc, Lattice, Topology
from kseq.backend import Tensor


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True)
class CTCTopology(Topology):
    """CTC topology: each label covers one frame or more, with optional blank frames around it.

    The blank between two equal labels is required; between different labels it is optional. State 2j + 1 is label j and
    state 2j is the blank before it, so there are 2 * max_labels + 1 states.

    Args:
        blank_index: The class that is the blank; -1 is the last class.

    Reference: A. Graves, S. Fernandez, F. Gomez, J. Schmidhuber, "Connectionist temporal classification: labelling
    unsegmented sequence data with recurrent neural networks", 2006.
    """

    blank_index: int = 0

    def lattice(self, labels: Tensor, label_lengths: Tensor) -> Lattice:
        """Return the lattice: arcs stay, go to the next state, or skip a blank between two different labels."""
        batch, count = ops.shape(labels)
        states = ops.arange(2 * count + 1, dtype="int32")
        blank = ops.full((batch, 1), self.blank_index, dtype=labels.dtype)
        differs = ops.concatenate([ops.zeros((batch, 1), "bool"), labels[:, 1:] != labels[:, :-1]], axis=1)
        differs = ops.reshape(ops.stack([ops.zeros_like(differs), differs], axis=2), (batch, 2 * count))
        return Lattice(
            symbols=ops.concatenate([blank, labels], axis=1),
            emitted=ops.where(states % 2 == 1, states // 2 + 1, 0),
            silent=None,
            first=ops.zeros_like(label_lengths),
            last=2 * label_lengths,
            arcs=(Arc(0), Arc(1), Arc(2, ops.pad(differs, [[0, 0], [0, 1]]))),
        )

    def label_of_state(self, states: Tensor) -> Tensor:
        """Return the label of each odd state, and -1 for blanks."""
        return ops.where(states % 2 == 1, states // 2, -1)

    def collect(self, states: Tensor) -> Tensor:
        """Return the values per symbol; the blanks are summed by a matrix product, which is faster than a sum."""
        of_blank = ops.cast(ops.arange(ops.shape(states)[-1]) % 2 == 0, states.dtype)
        return ops.concatenate([ops.matmul(states, of_blank[:, None]), states[..., 1::2]], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"blank_index": self.blank_index}
