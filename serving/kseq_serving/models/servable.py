"""Loaded version of a model, which is not unloaded while requests use it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from kseq_serving.models.session import ModelSession


class Servable:
    """Loaded version with a count of the requests that use it.

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
        self._idle = threading.Condition()
        self._users = 0

    def acquire(self) -> None:
        """Count one more request; the caller must ensure that the version is not being retired."""
        with self._idle:
            self._users += 1

    def release(self) -> None:
        """Count one request fewer."""
        with self._idle:
            self._users -= 1
            if not self._users:
                self._idle.notify_all()

    @contextlib.contextmanager
    def released_after(self) -> Iterator[Servable]:
        """Release the acquired servable at the end of a `with` block."""
        try:
            yield self
        finally:
            self.release()

    def retire(self, timeout_s: float | None = None) -> None:
        """Wait until no request uses the version, then unload it.

        Args:
            timeout_s: Longest time to wait, in seconds; then runs in progress are cancelled. None for no limit.
        """
        with self._idle:
            self._idle.wait_for(lambda: not self._users, timeout_s)
        self.session.close()
