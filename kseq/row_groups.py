"""Rows of the batch in groups that a loop treats one beside the other."""

import itertools
from typing import Any, NamedTuple

from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor


class RowGroups(NamedTuple):
    """Rows of the batch in groups, which a step treats one beside the other.

    A step is a chain of operations, each waiting for the one before, and small ones keep a single core busy; two
    chains that know nothing of each other keep two.
    """

    count: int
    batch_size: int | Tensor

    def split(self, nest: Any, *, axis: int) -> list:
        """Return one nest for each group; the batch is at `axis` of every tensor."""
        if self.count == 1:
            return [nest]
        bounds = [self.batch_size * group // self.count for group in range(self.count + 1)]
        if axis == 0:
            return [tree.map_structure(lambda x, a=a, b=b: x[a:b], nest) for a, b in itertools.pairwise(bounds)]
        return [tree.map_structure(lambda x, a=a, b=b: x[:, a:b], nest) for a, b in itertools.pairwise(bounds)]

    def join(self, groups: list, *, axis: int) -> Any:
        """Undo `split`."""
        return groups[0] if self.count == 1 else tree.map_structure(lambda *x: ops.concatenate(x, axis=axis), *groups)

    @classmethod
    def of(cls, rows: Tensor, training: bool) -> "RowGroups":
        """Return the groups that suit a loop over the steps of `rows` `(batch, ...)`."""
        return cls(backend.row_groups(rows.shape[0], training), ops.shape(rows)[0])
