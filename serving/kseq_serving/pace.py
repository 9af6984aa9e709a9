"""Tells which calls are so quick that to hand them to another thread costs more than to run them where they came in.

The network is served by one thread, so a call that runs there holds up all others. A call may do so only when those
like it have all been quick lately, and one that was not sends the next ones to other threads again.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from types import TracebackType

QUICK_S = 0.001
STREAK = 32  # so many quick calls in a row make the next one likely to be quick
MAX_KINDS = 1000  # kinds are made of what clients send
MAX_BYTES = 4096  # the time to read a request grows with its size


class Pace:
    """Remembers how quick calls were, by kind.

    Args:
        enabled: whether any call may count as quick.
    """

    def __init__(self, *, enabled: bool = True):
        self._enabled = enabled
        self._streaks: dict[Hashable, int] = {}

    def is_quick(self, kind: Hashable, size: int) -> bool:
        """Whether a call of this kind and of ``size`` bytes may run on the network's thread."""
        return self._enabled and size <= MAX_BYTES and self._streaks.get(kind, 0) >= STREAK

    def timed(self, kind: Hashable) -> _Timed:
        """Times a call of this kind in a ``with`` block."""
        return _Timed(self, kind)

    def record(self, kind: Hashable, seconds: float) -> None:
        """Takes note of a call's time."""
        if not self._enabled or (kind not in self._streaks and len(self._streaks) >= MAX_KINDS):
            return
        self._streaks[kind] = self._streaks.get(kind, 0) + 1 if seconds < QUICK_S else 0


class _Timed:
    def __init__(self, pace: Pace, kind: Hashable):
        self._pace = pace
        self._kind = kind

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pace.record(self._kind, time.perf_counter() - self._started)
