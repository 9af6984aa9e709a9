"""Budgets of bytes that all requests of a server share."""

from __future__ import annotations

import threading

from kseq_serving.errors import Code, ServingError


class Budget:
    """Number of bytes that requests may hold at the same time; usable from any thread.

    Args:
        limit: Largest number of bytes.
        holders: What holds the bytes, as the subject of the error text.
    """

    def __init__(self, limit: int, holders: str):
        self._limit = limit
        self._holders = holders
        self._lock = threading.RLock()  # a finalizer may give bytes back while this thread holds the lock
        self._used = 0  # guarded by _lock

    @property
    def used(self) -> int:
        """Number of bytes that are held now."""
        with self._lock:
            return self._used

    def take(self, size: int) -> None:
        """Take bytes from the budget.

        Raises:
            ServingError: If fewer bytes are left; then none are taken.
        """
        with self._lock:
            if self._used + size > self._limit:
                raise ServingError(
                    Code.RESOURCE_EXHAUSTED, f"{self._holders} exceed {self._limit} bytes. Try again later."
                )
            self._used += size

    def give_back(self, size: int) -> None:
        """Give bytes back to the budget."""
        with self._lock:
            self._used -= size


class Share:
    """Bytes that one request holds of a budget.

    Args:
        budget: Budget to take the bytes from.
    """

    def __init__(self, budget: Budget):
        self._budget = budget
        self._lock = threading.Lock()
        self._size = 0  # guarded by _lock
        self._is_released = False  # guarded by _lock

    @property
    def size(self) -> int:
        """Number of bytes that it holds now."""
        with self._lock:
            return self._size

    def take(self, size: int) -> None:
        """Take more bytes.

        Raises:
            ServingError: If fewer bytes are left in the budget, or the share was released because the client has gone.
        """
        with self._lock:
            if self._is_released:
                raise ServingError(Code.CANCELLED, "The client has gone.")
            self._budget.take(size)
            self._size += size

    def release(self) -> None:
        """Give all bytes back; no more can be taken."""
        with self._lock:
            self._budget.give_back(self._size)
            self._size = 0
            self._is_released = True
