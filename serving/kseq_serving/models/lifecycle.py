"""States of versions as clients see them: START, LOADING, AVAILABLE, UNLOADING, END, with an error if one occurred."""

from __future__ import annotations

import dataclasses
import enum
import threading
from collections.abc import Callable, Collection, Mapping

from kseq_serving.errors import ServingError


class State(enum.IntEnum):
    """State of a version, numbered as in `ModelVersionStatus.State`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """Last change of a version's state.

    Attributes:
        state: The new state.
        error: Error that ended the version; None unless it failed.
        event: Number of this change, counted over all versions.
    """

    state: State
    error: ServingError | None
    event: int = 0


class StatusBoard:
    """Last known status of every version that the server ever handled; usable from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._models: dict[str, dict[int, VersionStatus]] = {}
        self._events = 0

    def post(self, model: str, version: int, state: State, error: ServingError | None = None) -> None:
        """Record a change of state, and wake the threads that wait for one."""
        with self._changed:
            self._events += 1
            self._models.setdefault(model, {})[version] = VersionStatus(state, error, self._events)
            self._changed.notify_all()

    @property
    def events(self) -> int:
        """Number of changes of state until now."""
        return self._events

    def versions(self, model: str) -> Mapping[int, VersionStatus]:
        """Return the statuses of a model's versions, the newest version first; empty for an unknown model."""
        with self._changed:
            return self._versions(model)

    def models(self) -> list[str]:
        """Return the names of all models that the server ever handled, sorted."""
        with self._changed:
            return sorted(self._models)

    def knows(self, model: str) -> bool:
        """Return whether the server ever handled a version of this model."""
        return model in self._models

    def is_available(self, model: str, version: int) -> bool:
        """Return whether a version answers requests now."""
        status = self.versions(model).get(version)
        return status is not None and status.state is State.AVAILABLE

    def wait_until_settled(
        self, models: Collection[str], give_up: Callable[[], bool], *, since: int = 0, timeout_s: float | None = None
    ) -> Mapping[str, tuple[int, VersionStatus]]:
        """Wait until each model has a version that became available or ended.

        Args:
            models: Names of the models to wait for.
            give_up: Function that returns whether to stop waiting; call `wake` when its result changes.
            since: Number of the last change of state to ignore.
            timeout_s: Longest time to wait, in seconds; None for no limit.

        Returns:
            The newest available or ended version and its status, for each model that has one.
        """
        settled: dict[str, tuple[int, VersionStatus]] = {}

        def is_done() -> bool:
            # First, since a model that was removed also ends: whoever waited for it is told of the removal.
            if give_up():
                return True
            settled.update({model: found for model in models if (found := self._settled(model, since))})
            return len(settled) == len(models)

        with self._changed:
            self._changed.wait_for(is_done, timeout_s)
        return settled

    def wake(self) -> None:
        """Make `wait_until_settled` call its `give_up` again."""
        with self._changed:
            self._changed.notify_all()

    def _versions(self, model: str) -> dict[int, VersionStatus]:
        return dict(sorted(self._models.get(model, {}).items(), reverse=True))

    def _settled(self, model: str, since: int) -> tuple[int, VersionStatus] | None:
        for version, status in self._versions(model).items():
            if status.event > since and status.state in (State.AVAILABLE, State.END):
                return version, status
        return None
