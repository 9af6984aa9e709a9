"""Request paths whose answers take less than a millisecond, as far as the last ones show."""

from __future__ import annotations

import dataclasses

QUICK_S = 1e-3  # longest average time of a quick answer; handing a request to another thread takes a tenth of it
PAUSE = 10  # requests after which a path that was not quick is tried again; four times as many after each failure
MAX_PAUSE = 1000
FORGIVEN = 250  # quick answers in a row after which a quarter of the pause is enough
MAX_PATHS = 1000
_WEIGHT = 1 / 8  # of the last answer in the average
_MOST_S = 4 * QUICK_S  # that a single answer counts; the system may have stopped the thread meanwhile


@dataclasses.dataclass
class _Path:
    average_s: float = 0.0
    left: int = 0  # requests until the next try
    pause: int = PAUSE
    in_a_row: int = 0


class QuickPaths:
    """Record of how long the answers to the requests of each path took; used by one thread at a time."""

    def __init__(self) -> None:
        self._paths: dict[str, _Path] = {}

    def try_next(self, path: str) -> bool:
        """Return whether the answer to the next request is expected to be quick, or worth a try."""
        known = self._paths.get(path)
        if known is None:
            return len(self._paths) < MAX_PATHS
        if known.left:
            known.left -= 1
            return False
        return True

    def knows(self, path: str) -> bool:
        """Return whether an answer of a path was noted."""
        return path in self._paths

    def note(self, path: str, seconds: float) -> None:
        """Note how long an answer took that `try_next` allowed."""
        known = self._paths.get(path) or self._paths.setdefault(path, _Path())
        known.average_s += _WEIGHT * (min(seconds, _MOST_S) - known.average_s)
        if known.average_s > QUICK_S:
            self.distrust(path)
            return
        known.in_a_row += 1
        if known.in_a_row % FORGIVEN == 0:
            known.pause = max(PAUSE, known.pause // 4)

    def distrust(self, path: str) -> None:
        """Note that an answer takes too long."""
        known = self._paths.setdefault(path, _Path())
        known.left, known.pause = known.pause, min(4 * known.pause, MAX_PAUSE)
        known.average_s, known.in_a_row = 0.0, 0
