"""The order of a dataset's batches, a function of its seed and the number of the epoch."""

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np


class BatchOrder:
    """The random numbers of each epoch's order, which do not depend on the epochs before.

    A dataset asks for the numbers when it is iterated, and then counts the epoch: one that is not iterated to its end,
    as Keras looks at a first batch, does not count. `ExactResume` sets `epoch` to that of `fit`.

    Args:
        seed: Seed of the order, at least 0; None: a random one.
        shuffle: Whether the order changes from epoch to epoch.
        rows: Arrays, numbers and texts from which the batches are made, for the fingerprint.

    Attributes:
        seed: The seed.
        epoch: Number of the present epoch, from 0.
        fingerprint: A number that other rows or options do not have.
    """

    def __init__(self, seed: int | None, *, shuffle: bool, rows: Iterable[Any]):
        self.seed: int = np.random.SeedSequence().entropy if seed is None else seed  # type: ignore[assignment]
        self.shuffle, self.epoch, self.fingerprint = shuffle, 0, fingerprint(rows)

    def random(self) -> np.random.Generator | None:
        """Return the random numbers of the present epoch; None for an order without any."""
        return np.random.default_rng([self.seed, self.epoch]) if self.shuffle else None


def fingerprint(values: Iterable[Any]) -> int:
    """Return a checksum of arrays, numbers and texts."""
    checksum = 0
    for value in values:
        array = np.asarray(value)
        data = repr(value).encode() if array.dtype.kind in "OUS" else array.tobytes()
        checksum = zlib.crc32(f"{array.dtype}{array.shape}".encode() + data, checksum)
    return checksum
