"""Folder listings with a timeout, for file systems that may hang."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterable, Mapping

LISTING_TIMEOUT_S = 5.0


class _Listing:
    """Listing of a folder, on a thread of its own."""

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
        except ValueError:  # the path has a NUL
            self.found = _error(errno.EINVAL, self.path)
        finally:
            self.ended.set()


class Folders:
    """Lister of folders; a folder that hangs occupies one thread, and delays callers by at most the timeout.

    Args:
        timeout_s: Longest time that a listing may take, in seconds.
    """

    def __init__(self, timeout_s: float = LISTING_TIMEOUT_S):
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._listings: dict[str, _Listing] = {}  # those that have not ended, by path; guarded by _lock

    def names(self, paths: Iterable[str]) -> Mapping[str, list[str] | OSError]:
        """Return the present names in each folder, or the error if it cannot be read, by path."""
        paths = set(paths)
        with self._lock:
            earlier = [listing for listing in self._listings.values() if listing.path in paths]
        # The result of an earlier listing may be out of date, so it is not used. While one hangs, no second is started.
        hung = {listing.path for listing in earlier if not self._wait(listing)}
        listings = [self._start(path) for path in paths - hung]
        found = {path: _error(errno.ETIMEDOUT, path) for path in hung}
        return found | {
            listing.path: listing.found if self._wait(listing) else _error(errno.ETIMEDOUT, listing.path)
            for listing in listings
        }

    def _start(self, path: str) -> _Listing:
        with self._lock:
            listing = self._listings[path] = _Listing(path)
        return listing

    def _wait(self, listing: _Listing) -> bool:
        """Return whether a listing ended in time."""
        ended = listing.ended.wait(max(0.0, listing.started + self._timeout_s - time.monotonic()))
        with self._lock:
            if ended and self._listings.get(listing.path) is listing:
                del self._listings[listing.path]
        return ended


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
