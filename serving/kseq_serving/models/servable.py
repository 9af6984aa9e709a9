"""Loaded version of a model, which is not unloaded while requests use it."""

from __future__ import annotations

import threading

from kseq_serving.models.session import ModelSession


class Servable:
    """Loaded version with a count of the requests that use it; a `with` block releases what was acquired before.

    Args:
        name: Name of the model.
        version: Number of the version.
        session: Session of the version; `retire` closes it.
        folder: Folder of the version.
    """

    def __init__(self, name: str, version: int, session: ModelSession, folder: str):
        self.name = name
        self.version = version
        self.session = session
        self.folder = folder
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._users = 0  # guarded by _lock
        self._is_retired = False  # guarded by _lock

    def acquire(self) -> None:
        """Count one more request; the caller must ensure that the version is not being retired."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """Count one request fewer."""
        with self._lock:
            self._users -= 1
            if self._is_retired and not self._users:
                self._idle.notify_all()

    def __enter__(self) -> Servable:
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()

    def retire(self, timeout_s: float | None = None) -> None:
        """Wait until no request uses the version, then unload it.

        Args:
            timeout_s: Longest time to wait, in seconds; then runs in progress are cancelled. None for no limit.
        """
        with self._lock:
            self._is_retired = True
            self._idle.wait_for(lambda: not self._users, timeout_s)
        self.session.close()
