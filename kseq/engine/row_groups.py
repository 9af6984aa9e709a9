"""The batch in groups of rows, which a step of the loop treats one beside the other.

A step is a chain of operations, each waiting for the one before, and small ones keep a single core busy. Two chains
that do not depend on each other keep two cores busy.
"""

from typing import Any

from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.engine.equations import Equations, State


class RowGroups:
    """The groups of rows of one call.

    Args:
        equations: The cell's.
        state: The initial state, `(batch, ...)` each.
        training: Whether a gradient is likely to follow.
    """

    def __init__(self, equations: Equations, state: State, training: bool):
        self.count = backend.row_groups(state[0].shape[0], training) if equations.recurs_rows_apart else 1

    def split(self, nest: Any, *, axis: int) -> list:
        """Return one nest for each group; the batch is at `axis` of every tensor."""
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
        """Return the projections `(time, rows, ...)` of each group, of inputs `(time, batch, features)`."""
        if equations.projects_rows_apart:
            return [equations.project(rows, None) for rows in self.split(inputs, axis=1)]
        return self.split(equations.project(inputs, mask), axis=1)
