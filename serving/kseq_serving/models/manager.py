"""Manager that loads and unloads versions without interrupting the service of a model.

`set_aspired` sets the versions of a model that should be loaded; TensorFlow Serving calls these the aspired versions.
One thread reaches that state step by step. It loads the newest aspired version first. It unloads a version that is no
longer aspired only when an aspired one is available, or when no version is aspired. While it retries a version that
cannot be loaded, everything else waits, as in TensorFlow Serving.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import logging
import threading
from collections.abc import Callable, Mapping

from kseq_serving.errors import Code, NotFoundError, ServingError
from kseq_serving.models.lifecycle import State, StatusBoard
from kseq_serving.models.servable import Servable
from kseq_serving.models.session import ModelSession

Load = Callable[[str, int, str], ModelSession]
"""Function that loads and warms up a version, from (model name, version, folder)."""

_log = logging.getLogger(__name__)


class Stage(enum.Enum):
    """Stage of a version in the manager."""

    NEW = enum.auto()
    READY = enum.auto()
    FAILED = enum.auto()


@dataclasses.dataclass
class Managed:
    """Version that the manager knows of.

    Attributes:
        path: Folder of the version.
        aspired: Whether the version should be loaded.
        stage: Whether it is loaded.
    """

    path: str
    aspired: bool = True
    stage: Stage = Stage.NEW


class Action(enum.IntEnum):
    """Step of the manager. Over all models, unloading comes first because it frees memory."""

    UNLOAD = 1
    LOAD = 2


def next_action(versions: Mapping[int, Managed]) -> tuple[Action, int] | None:
    """Return the next step for one model, or None if there is nothing to do.

    The steps never leave the model without an available version while one is aspired.
    """
    unwanted = [v for v, managed in versions.items() if managed.stage is Stage.READY and not managed.aspired]
    aspired = [managed for managed in versions.values() if managed.aspired]
    covered = any(managed.stage is Stage.READY for managed in aspired)
    if unwanted and (not aspired or covered or len(unwanted) > 1):
        return Action.UNLOAD, min(unwanted)
    new = [v for v, managed in versions.items() if managed.stage is Stage.NEW and managed.aspired]
    return (Action.LOAD, max(new)) if new else None


class VersionManager:
    """Owner of the loaded versions and of the thread that changes them.

    Args:
        load: Function that loads a version.
        board: Board to post each change of state on.
        max_retries: Number of times that a failed load is tried again.
        retry_interval_s: Time between two tries, in seconds.
    """

    def __init__(self, load: Load, board: StatusBoard, *, max_retries: int, retry_interval_s: float):
        self._load = load
        self._board = board
        self._max_retries = max_retries
        self._retry_interval_s = retry_interval_s
        self._lock = threading.Condition()
        self._pending: dict[str, Mapping[int, str]] = {}  # guarded by _lock
        self._ready: dict[str, dict[int, Servable]] = {}  # guarded by _lock
        self._managed: dict[str, dict[int, Managed]] = {}  # used by the thread alone
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="version-manager", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def set_aspired(self, model: str, versions: Mapping[int, str]) -> None:
        """Set the versions of a model that should be loaded, folders by number; an empty mapping unloads the model."""
        with self._lock:
            self._pending[model] = versions
            self._lock.notify_all()

    def lease(self, model: str, version: int | None = None) -> contextlib.AbstractContextManager[Servable]:
        """Lease a version to run a request on; it is not unloaded before the `with` block ends.

        Args:
            model: Name of the model.
            version: Version to lease; None for the newest available one.

        Raises:
            NotFoundError: If no such version is available.
        """
        with self._lock:
            versions = self._ready.get(model, {})
            wanted = max(versions, default=None) if version is None else version
            servable = versions.get(wanted) if wanted is not None else None
            if servable is None:
                request = f"Latest({model})" if version is None else f"Specific({model}, {version})"
                raise NotFoundError(f"Servable not found for request: {request}")
            servable.acquire()
        return servable.released_after()

    def stop(self, grace_s: float) -> None:
        """Stop the thread and unload every version, after at most `grace_s` seconds for requests in progress."""
        self._stop.set()
        with self._lock:
            self._lock.notify_all()
            servables = [servable for versions in self._ready.values() for servable in versions.values()]
            self._ready.clear()
        for servable in servables:
            servable.retire(grace_s)
        if self._thread.is_alive():
            self._thread.join(grace_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._take_pending()
            steps = [(step, model) for model, versions in self._managed.items() if (step := next_action(versions))]
            if steps:
                (action, version), model = min(steps, key=lambda step: step[0][0])
                self._perform(action, model, version)
                continue
            with self._lock:
                self._lock.wait_for(lambda: self._pending or self._stop.is_set())

    def _take_pending(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        for model, aspired in pending.items():
            managed = self._managed.setdefault(model, {})
            for version, path in aspired.items():
                if version not in managed:
                    managed[version] = Managed(path)
                    self._board.post(model, version, State.START)
            for version, known in list(managed.items()):
                known.aspired = version in aspired
                if not known.aspired and known.stage is not Stage.READY:
                    del managed[version]
            if not managed:
                del self._managed[model]

    def _perform(self, action: Action, model: str, version: int) -> None:
        try:
            if action is Action.LOAD:
                self._load_version(model, version)
            else:
                self._unload_version(model, version)
        except Exception:  # no failure of a model may end the thread
            _log.exception("Version %d of model %s: %s failed", version, model, action.name)

    def _load_version(self, model: str, version: int) -> None:
        managed = self._managed[model][version]
        self._board.post(model, version, State.LOADING)
        try:
            session = self._load_with_retries(model, version, managed.path)
        except ServingError as error:
            managed.stage = Stage.FAILED
            self._board.post(model, version, State.END, error)
            return
        with self._lock:
            stopped = self._stop.is_set()
            if not stopped:
                self._ready.setdefault(model, {})[version] = Servable(model, version, session, managed.path)
        if stopped:
            session.close()
            return
        managed.stage = Stage.READY
        self._board.post(model, version, State.AVAILABLE)
        _log.info("Serving version %d of model %s from %s", version, model, managed.path)

    def _load_with_retries(self, model: str, version: int, path: str) -> ModelSession:
        tries_left = self._max_retries
        while True:
            try:
                return self._load(model, version, path)
            except ServingError as caught:
                error = caught
            except Exception as caught:
                _log.exception("Version %d of model %s: unexpected failure while loading %s", version, model, path)
                error = ServingError(Code.UNKNOWN, f"{type(caught).__name__}: {caught}")
            _log.error("Version %d of model %s cannot be loaded from %s: %s", version, model, path, error)
            if tries_left <= 0 or self._stop.wait(self._retry_interval_s):
                raise error
            tries_left -= 1

    def _unload_version(self, model: str, version: int) -> None:
        self._board.post(model, version, State.UNLOADING)
        with self._lock:
            servable = self._ready[model].pop(version)
        servable.retire()
        del self._managed[model][version]
        if not self._managed[model]:
            del self._managed[model]
        self._board.post(model, version, State.END)
        _log.info("Unloaded version %d of model %s", version, model)
