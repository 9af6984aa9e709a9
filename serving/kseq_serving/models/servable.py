"""A loaded version of a model, kept alive while requests use it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from kseq_serving.models.session import ModelSession


class Servable:
    """One version that answers requests.

    Args:
        name: the model's name.
        version: the number of its folder.
        session: the loaded model; the servable closes it.
    """

    def __init__(self, name: str, version: int, session: ModelSession):
        self.name = name
        self.version = version
        self.session = session
        self._idle = threading.Condition()
        self._users = 0

    def acquire(self) -> None:
        """Counts one more request; the caller makes sure that the version is not retired meanwhile."""
        with self._idle:
            self._users += 1

    def release(self) -> None:
        """Counts one request less."""
        with self._idle:
            self._users -= 1
            if not self._users:
                self._idle.notify_all()

    @contextlib.contextmanager
    def released_after(self) -> Iterator[Servable]:
        """Hands an acquired servable to a ``with`` block and releases it behind it."""
        try:
            yield self
        finally:
            self.release()

    def retire(self, timeout_s: float | None = None) -> None:
        """Waits until no request uses the version, then frees it.

        Args:
            timeout_s: the longest to wait; runs that are still going on then are cancelled.
        """
        with self._idle:
            self._idle.wait_for(lambda: not self._users, timeout_s)
        self.session.close()
