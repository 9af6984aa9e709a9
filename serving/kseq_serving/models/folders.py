"""Lists folders on file systems that may not answer."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterable, Mapping

LOOK_TIMEOUT_S = 5.0


class _Look:
    """One listing of a folder, on a thread of its own."""

    def __init__(self, path: str):
        self.path = path
        self.started = time.monotonic()
        self.ended = threading.Event()
        self.found: list[str] | OSError = []
        threading.Thread(target=self._run, name="folder", daemon=True).start()

    def _run(self) -> None:
        try:
            self.found = os.listdir(self.path)
        except OSError as error:
            self.found = error
        except ValueError:  # a NUL in the path
            self.found = _error(errno.EINVAL, self.path)
        finally:
            self.ended.set()


class Folders:
    """Lists folders; those that hang cost a thread each, and hold up nobody for longer than the timeout.

    Args:
        timeout_s: the longest that a look may take.
    """

    def __init__(self, timeout_s: float = LOOK_TIMEOUT_S):
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._looks: dict[str, _Look] = {}  # those that have not ended, by path; guarded by _lock

    def names(self, paths: Iterable[str]) -> Mapping[str, list[str] | OSError]:
        """For each folder the names in it as it is now, or why it cannot be read."""
        paths = set(paths)
        with self._lock:
            earlier = [look for look in self._looks.values() if look.path in paths]
        # What an earlier look finds may be of yesterday. Where it hangs, a second thread would hang too.
        hung = {look.path for look in earlier if not self._wait(look)}
        looks = [self._start(path) for path in paths - hung]
        found = {path: _error(errno.ETIMEDOUT, path) for path in hung}
        return found | {
            look.path: look.found if self._wait(look) else _error(errno.ETIMEDOUT, look.path) for look in looks
        }

    def _start(self, path: str) -> _Look:
        with self._lock:
            look = self._looks[path] = _Look(path)
        return look

    def _wait(self, look: _Look) -> bool:
        """Whether a look ended in its time."""
        ended = look.ended.wait(max(0.0, look.started + self._timeout_s - time.monotonic()))
        with self._lock:
            if ended and self._looks.get(look.path) is look:
                del self._looks[look.path]
        return ended


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
