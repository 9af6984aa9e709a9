"""Transitions of an automaton as tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import Options


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, eq=False)
class Arcs(Options):
    """The arcs of all states, one state after the other, by token within a state.

    Attributes:
        first: int32 `(states + 1,)`, where a state's arcs begin.
        tokens: int32 `(arcs + 1,)`, the token of each arc; the last entry is no arc: -1.
        ends: int32 `(arcs + 1,)`, the state that each arc leads to.
    """

    first: np.ndarray
    tokens: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, states: Sequence[dict[int, int]]) -> "Arcs":
        """Return the tables of states, each a dictionary `{token: next state}`."""
        arcs = [arc for state in states for arc in sorted(state.items())]
        tokens, ends = zip(*arcs, (-1, 0), strict=True)
        first = np.cumsum([0, *(len(state) for state in states)])
        return cls(first.astype("int32"), np.array(tokens, "int32"), np.array(ends, "int32"))

    def find(self, states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the indices of the arcs from `states` by `tokens`, and whether they exist: int32, bool."""
        first, arcs = ops.convert_to_tensor(self.first), ops.convert_to_tensor(self.tokens)  # once each in a graph
        low, end = ops.take(first, states, axis=0), ops.take(first, states + 1, axis=0)
        high = end
        for _ in range(int(np.diff(self.first).max()).bit_length()):
            middle = (low + high) // 2
            before = ops.logical_and(low < high, ops.take(arcs, middle, axis=0) < tokens)
            low, high = ops.where(before, middle + 1, low), ops.where(before, high, ops.minimum(middle, high))
        return low, ops.logical_and(low < end, ops.take(arcs, low, axis=0) == tokens)
