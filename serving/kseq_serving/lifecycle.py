"""The life of a version as clients see it: START, LOADING, AVAILABLE, UNLOADING, END, each with a health."""

from __future__ import annotations

import dataclasses
import enum
import threading
from collections.abc import Collection, Mapping

from kseq_serving.errors import ServingError


class State(enum.IntEnum):
    """The states of a version, numbered as ``ModelVersionStatus.State``."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """Where a version stands.

    Attributes:
        state: its state.
        error: what ended it, if it did not end by being unloaded.
    """

    state: State
    error: ServingError | None


class StatusBoard:
    """The last known status of every version that the server ever handled; safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._models: dict[str, dict[int, VersionStatus]] = {}

    def post(self, model: str, version: int, state: State, error: ServingError | None = None) -> None:
        """Records a change of state and wakes whoever waits for one."""
        with self._changed:
            self._models.setdefault(model, {})[version] = VersionStatus(state, error)
            self._changed.notify_all()

    def versions(self, model: str) -> Mapping[int, VersionStatus]:
        """The statuses of a model's versions, the newest version first; empty for an unknown model."""
        with self._changed:
            return self._versions(model)

    def is_available(self, model: str, version: int) -> bool:
        """Whether a version answers requests now."""
        status = self.versions(model).get(version)
        return status is not None and status.state is State.AVAILABLE

    def wait_until_settled(
        self, models: Collection[str], stop: threading.Event
    ) -> Mapping[str, tuple[int, VersionStatus]]:
        """Waits until each model has a version that became available or ended.

        Args:
            models: the names to wait for.
            stop: gives up when set; whoever sets it calls ``wake``.

        Returns:
            For each model its newest version that settled; nothing when it gave up.
        """
        with self._changed:
            while not stop.is_set():
                settled = {model: found for model in models if (found := self._settled(model))}
                if len(settled) == len(models):
                    return settled
                self._changed.wait()
        return {}

    def wake(self) -> None:
        """Lets ``wait_until_settled`` look at its ``stop``."""
        with self._changed:
            self._changed.notify_all()

    def _versions(self, model: str) -> dict[int, VersionStatus]:
        return dict(sorted(self._models.get(model, {}).items(), reverse=True))

    def _settled(self, model: str) -> tuple[int, VersionStatus] | None:
        for version, status in self._versions(model).items():
            if status.state in (State.AVAILABLE, State.END):
                return version, status
        return None
