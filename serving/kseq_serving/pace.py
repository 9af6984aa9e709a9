"""Tells which calls are so quick that to hand them to another thread costs more than to run them where they came in.

The network is served by one thread, so a call that runs there holds up all others. Only kinds of calls that have
proved to be quick there may stay. A kind proves itself by probes: now and then one of its calls runs there, provided
that its last call elsewhere was not long. (How long calls take on the other threads says little: they wait for each
other.) One long call ends it, and a kind that is not quick is probed ever more rarely.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Hashable

QUICK_S = 0.001
MAX_PROBED_S = 0.02  # a call that took longer elsewhere is not tried on the network's thread
FIRST_PROBE_S, LAST_PROBE_S = 0.05, 10.0  # between two probes
WEIGHT = 0.2  # of the newest call in the average
MAX_KINDS = 1000  # kinds are made of what clients send
MAX_BYTES = 4096  # the time to read a request grows with its size


@dataclasses.dataclass
class _Kind:
    average_s: float = 4 * QUICK_S  # on the network's thread; at first some probes away from quick
    elsewhere_s: float = float("inf")
    probe_at: float = 0.0
    probe_interval_s: float = FIRST_PROBE_S


class Pace:
    """Remembers how quick calls were, by kind.

    Args:
        enabled: whether any call may count as quick.
    """

    def __init__(self, *, enabled: bool = True):
        self._enabled = enabled
        self._kinds: dict[Hashable, _Kind] = {}

    def is_quick(self, name: Hashable, size: int) -> bool:
        """Whether a call of this kind and of ``size`` bytes is to run on the network's thread."""
        kind = self._kinds.get(name)
        if not self._enabled or kind is None or size > MAX_BYTES:
            return False
        if kind.average_s < QUICK_S:
            return True
        now = time.monotonic()
        if kind.elsewhere_s > MAX_PROBED_S or now < kind.probe_at:
            return False
        kind.probe_at = now + kind.probe_interval_s
        return True

    def record(self, name: Hashable, seconds: float, *, on_network: bool, refused: bool) -> None:
        """Takes note of a call's time, and of the thread it took it on; what is refused soon proves nothing."""
        if refused and (not on_network or seconds < QUICK_S):
            return
        kind = self._kinds.get(name)
        if kind is None:
            if not self._enabled or len(self._kinds) >= MAX_KINDS:
                return
            kind = self._kinds[name] = _Kind()
        if not on_network:
            kind.elsewhere_s = seconds
            return
        kind.average_s += WEIGHT * (seconds - kind.average_s)
        if seconds < QUICK_S:
            kind.probe_interval_s = FIRST_PROBE_S
        else:
            kind.probe_interval_s = min(2 * kind.probe_interval_s, LAST_PROBE_S)
            kind.probe_at = time.monotonic() + kind.probe_interval_s
