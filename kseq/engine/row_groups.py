"""Groups of rows of a batch, which a step of the loop computes independently of each other.

The operations of a step form a chain in which each waits for the one before, and small operations use only one core.
Two independent chains use two cores.
"""

from typing import Any

from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.engine.equations import Equations, State


class RowGroups:
    """The groups of rows in one call.

    Args:
        equations: The cell's equations.
        state: The initial state, `(batch, ...)` each.
        training: Whether a gradient is likely to be asked for.
    """

    def __init__(self, equations: Equations, state: State, training: bool):
        self.count = backend.row_groups(state[0].shape[0], training) if equations.recurs_rows_apart else 1

    def split(self, nest: Any, *, axis: int) -> list:
        """Return one nest for each group; `axis` is the batch axis of every tensor."""
        if self.count == 1:
            return [nest]
        parts = [backend.split_rows(x, self.count, axis) for x in tree.flatten(nest)]
        if not parts:
            return [nest] * self.count
        return [tree.pack_sequence_as(nest, list(part)) for part in zip(*parts, strict=True)]

    def join(self, groups: list, *, axis: int) -> Any:
        """Undo `split`."""
        return groups[0] if self.count == 1 else tree.map_structure(lambda *x: ops.concatenate(x, axis=axis), *groups)

    def project(self, equations: Equations, inputs: Tensor, mask: Tensor | None) -> list:
        """Return each group's projections `(time, rows, ...)`, given all inputs `(time, batch, features)`."""
        if equations.projects_rows_apart:
            return [equations.project(rows, None) for rows in self.split(inputs, axis=1)]
        return self.split(equations.project(inputs, mask), axis=1)
