"""Plans of batches: the rows of each one, by groups of similar lengths, sizes of batches and shards of workers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kseq.numbers import whole

Shape = tuple[tuple[str, tuple[int, ...]], ...]  # name and shape of each array


class BatchPlan:
    """The batches of an epoch.

    Args:
        lengths: The lengths of the rows, by name.
        places: The index of each row's bucket, by name.
        buckets: The buckets, by name.
        batch_size: Rows in a batch; None if `tokens_per_batch` tells it.
        tokens_per_batch: Rows times the longest bucket of a batch, at most; at least one row.
        shard: Index and number of the workers that share the rows.

    Attributes:
        widths: For each group the bucket of each name.
        sizes: For each group the number of rows in a batch.
        count: Number of batches of this worker.
        padding: For each name the share of places without a token, those of all workers together.
    """

    def __init__(
        self,
        lengths: Mapping[str, np.ndarray],
        places: Mapping[str, np.ndarray],
        buckets: Mapping[str, Sequence[int]],
        *,
        batch_size: int | None,
        tokens_per_batch: int | None,
        shard: tuple[int, int],
    ):
        _, group = np.unique(np.stack(list(places.values()), axis=1), axis=0, return_inverse=True)
        self.group = group.reshape(-1)
        self.groups = [np.flatnonzero(self.group == index) for index in range(self.group.max() + 1)]
        self.widths = [{name: buckets[name][int(places[name][one[0]])] for name in places} for one in self.groups]
        self.sizes = [
            max(1, (tokens_per_batch or 0) // max(widths.values())) if batch_size is None else batch_size
            for widths in self.widths
        ]
        self.index, self.workers = shard
        together = [size * self.workers for size in self.sizes]
        steps = [-(-len(rows) // size) for rows, size in zip(self.groups, together, strict=True)]
        self.count = sum(steps)
        slots = {name: 0 for name in places}
        for number, size, widths in zip(steps, together, self.widths, strict=True):
            for name, width in widths.items():
                slots[name] += number * size * width
        self.padding = {name: 1.0 - float(of.sum()) / slots[name] for name, of in lengths.items()}

    def shapes(self) -> list[Shape]:
        """Return the different shapes of batches."""
        sized = zip(self.widths, self.sizes, strict=True)
        return [tuple((name, (size, width)) for name, width in widths.items()) for widths, size in sized]

    def batches(self, random: np.random.Generator | None, *, ascending: bool) -> list[tuple[int, np.ndarray]]:
        """Return the batches of this worker in an epoch, each a group and its rows.

        Args:
            random: Draws the order; None for that of the groups.
            ascending: Whether batches of short rows come first.
        """
        steps = []
        for number, (group, size) in enumerate(zip(self.groups, self.sizes, strict=True)):
            rows = group if random is None else random.permutation(group)
            together = size * self.workers
            steps += [(number, rows[start : start + together]) for start in range(0, len(rows), together)]
        if random is not None:
            steps = [steps[int(place)] for place in random.permutation(len(steps))]
        if ascending:
            steps.sort(key=lambda step: sum(self.widths[step[0]].values()))
        return [(number, np.array_split(rows, self.workers)[self.index]) for number, rows in steps]


def checked_shard(shard: Any) -> tuple[int, int]:
    """Return index and number of workers; raise ValueError if they are none."""
    try:
        index, workers = (whole("shard", each) for each in shard)
    except TypeError:
        raise ValueError(f"shard={shard!r} must be a pair (index, number of workers), such as (0, 2).") from None
    if not 0 <= index < workers:
        raise ValueError(f"shard={shard!r}, but the index of a worker is from 0 to {workers - 1}.")
    return index, workers
