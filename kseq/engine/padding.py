"""Padding of rows and steps, so that the compiled loop meets few shapes."""

from typing import Any

from keras import ops, tree

from kseq.backend import Tensor
from kseq.engine.recurrence import Rows
from kseq.padded_sizes import STEPS, fixed_size, pad, padded_size


class Padding:
    """The padding of groups of rows. Sizes that are known when a graph is built are not padded.

    The padding of steps takes no time: the loop ends at `length`.

    Args:
        groups: The groups, the largest last, as `RowGroups` makes them. All get its number of rows.
        rows_apart: Whether the cell treats each row independently of the others; if not, rows are not padded.

    Attributes:
        length: int32 scalar, the number of real steps; () if it is static.
    """

    def __init__(self, groups: list[Rows], *, rows_apart: bool):
        self._groups = groups
        leading = tree.flatten(groups[-1].projected)[0]
        steps, rows = fixed_size(leading, 0), fixed_size(leading, 1)
        length, count = ops.shape(leading)[:2]
        self.length: Any = () if steps is not None else ops.convert_to_tensor(length, "int32")
        self._steps = padded_size(length, STEPS) if steps is None else None
        self._rows = rows if rows is not None or not rows_apart else padded_size(count)

    def pad(self) -> list[Rows]:
        """Return the groups with padding."""

        def over_time(values: Tensor) -> Tensor:
            values = self._over_rows(values, 1)
            return values if self._steps is None else pad(values, 0, self._steps)

        return [
            Rows(
                tree.map_structure(over_time, group.projected),
                tuple(self._over_rows(each, 0) for each in group.state),
                tree.map_structure(over_time, group.mask),
            )
            for group in self._groups
        ]

    def _over_rows(self, values: Tensor, axis: int) -> Tensor:
        return values if self._rows is None else pad(values, axis, self._rows)

    def cut(self, results: list[tuple[Any, tuple]]) -> list[tuple[Any, tuple]]:
        """Return the outputs `(time, rows, ...)`, or (), and the final state of each group without the padding."""
        return [self._cut(*result, group.state) for result, group in zip(results, self._groups, strict=True)]

    def _cut(self, outputs: Any, final: tuple, before: tuple) -> tuple[Any, tuple]:
        if self._rows is not None and not _equal(self._rows, before[0].shape[0]):
            rows = ops.shape(before[0])[0]
            outputs, final = tree.map_structure(lambda x: x[:, :rows], outputs), tuple(each[:rows] for each in final)
        if self._steps is not None:
            outputs = tree.map_structure(lambda x: x[: self.length], outputs)
        return outputs, final


def _equal(size: int | Tensor, static: int | None) -> bool:
    """Return whether a size is known to be that of a tensor."""
    return isinstance(size, int) and size == static
