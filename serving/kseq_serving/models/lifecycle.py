"""The life of a version as clients see it: START, LOADING, AVAILABLE, UNLOADING, END, each with a health."""

from __future__ import annotations

import dataclasses
import enum
import threading
from collections.abc import Callable, Collection, Mapping

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
        event: the number of this change of state, counted over all versions.
    """

    state: State
    error: ServingError | None
    event: int = 0


class StatusBoard:
    """The last known status of every version that the server ever handled; safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._models: dict[str, dict[int, VersionStatus]] = {}
        self._events = 0

    def post(self, model: str, version: int, state: State, error: ServingError | None = None) -> None:
        """Records a change of state and wakes whoever waits for one."""
        with self._changed:
            self._events += 1
            self._models.setdefault(model, {})[version] = VersionStatus(state, error, self._events)
            self._changed.notify_all()

    @property
    def events(self) -> int:
        """How many changes of state there were until now."""
        return self._events

    def versions(self, model: str) -> Mapping[int, VersionStatus]:
        """The statuses of a model's versions, the newest version first; empty for an unknown model."""
        with self._changed:
            return self._versions(model)

    def models(self) -> list[str]:
        """The names of all models that the server ever handled, sorted."""
        with self._changed:
            return sorted(self._models)

    def knows(self, model: str) -> bool:
        """Whether the server ever handled a version of this model."""
        return model in self._models

    def is_available(self, model: str, version: int) -> bool:
        """Whether a version answers requests now."""
        status = self.versions(model).get(version)
        return status is not None and status.state is State.AVAILABLE

    def wait_until_settled(
        self, models: Collection[str], give_up: Callable[[], bool], *, since: int = 0, timeout_s: float | None = None
    ) -> Mapping[str, tuple[int, VersionStatus]]:
        """Waits until each model has a version that became available or ended.

        Args:
            models: the names to wait for.
            give_up: whether to wait no longer; what changes its answer calls ``wake``.
            since: changes of state up to this one do not count.
            timeout_s: gives up after this time; None for never.

        Returns:
            For each model that settled its newest version that did.
        """
        settled: dict[str, tuple[int, VersionStatus]] = {}

        def is_done() -> bool:
            settled.update({model: found for model in models if (found := self._settled(model, since))})
            return len(settled) == len(models) or give_up()

        with self._changed:
            self._changed.wait_for(is_done, timeout_s)
        return settled

    def wake(self) -> None:
        """Lets ``wait_until_settled`` ask whether to give up."""
        with self._changed:
            self._changed.notify_all()

    def _versions(self, model: str) -> dict[int, VersionStatus]:
        return dict(sorted(self._models.get(model, {}).items(), reverse=True))

    def _settled(self, model: str, since: int) -> tuple[int, VersionStatus] | None:
        for version, status in self._versions(model).items():
            if status.event > since and status.state in (State.AVAILABLE, State.END):
                return version, status
        return None
