"""Manager that loads and unloads versions without interrupting the service of a model.

`set_aspired` sets the versions of a model that should be loaded; TensorFlow Serving calls these the aspired versions.
One thread reaches that state step by step. It loads the newest aspired version first. It unloads a version that is no
longer aspired only when an aspired one is available, or when no version is aspired.

A load that fails is tried again after an interval, as long as the version is aspired. In that interval other models are
loaded and unloaded, and so are newer versions of the same model; its older versions wait until the last try has failed.
For a load or an unload that takes longer than `PATIENCE_S`, the other versions do not wait: it may hang.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping

from kseq_serving.errors import Code, NotFoundError, ServingError
from kseq_serving.models.lifecycle import State, StatusBoard
from kseq_serving.models.servable import Servable
from kseq_serving.models.session import ModelSession

Load = Callable[[str, int, str], ModelSession]
"""Function that loads and warms up a version, from (model name, version, folder)."""

PATIENCE_S = 30.0  # a try to load or to unload that takes longer holds up no other version

_log = logging.getLogger(__name__)


class Stage(enum.Enum):
    """Stage of a version in the manager."""

    NEW = enum.auto()
    BUSY = enum.auto()
    RETRY = enum.auto()
    READY = enum.auto()
    FAILED = enum.auto()


@dataclasses.dataclass
class Managed:
    """Version that the manager knows of.

    Attributes:
        path: Folder of the version.
        aspired: Whether the version should be loaded.
        stage: Whether it is loaded; BUSY while it is being loaded or unloaded, RETRY between two tries to load it.
        due: Earliest time of the next try to load it, of `time.monotonic`.
        retries: Number of times that the load was tried again, or is going to be.
        error: Error of the last try to load it; None before the first one has failed.
    """

    path: str
    aspired: bool = True
    stage: Stage = Stage.NEW
    due: float = 0.0
    retries: int = 0
    error: ServingError | None = None


class Action(enum.IntEnum):
    """Step of the manager. Over all models, unloading comes first because it frees memory."""

    UNLOAD = 1
    LOAD = 2


class Step:
    """One try to load a version, or its unload, on a thread of its own.

    Attributes:
        action: Whether the version is loaded or unloaded.
        model: Name of the model.
        version: Number of the version.
        since: Time at which the step began, of `time.monotonic`.
        session: Session of the version that was loaded.
        error: Error with which the load ended.
        ended: Whether the step is over.
    """

    def __init__(self, action: Action, model: str, version: int):
        self.action, self.model, self.version = action, model, version
        self.since = time.monotonic()
        self.session: ModelSession | None = None
        self.error: ServingError | None = None
        self.ended = False

    def __str__(self) -> str:
        return f"{self.action.name} of version {self.version} of model {self.model}"


def next_to_load(versions: Mapping[int, Managed]) -> int | None:
    """Return the version of one model that is to be loaded next, now or when it is due; None if there is none."""
    waiting = (Stage.NEW, Stage.RETRY)
    return max((v for v, managed in versions.items() if managed.stage in waiting and managed.aspired), default=None)


def next_action(versions: Mapping[int, Managed], now: float = 0.0) -> tuple[Action, int] | None:
    """Return the next step for one model, or None if there is nothing to do now.

    The steps never leave the model without an available version while one is aspired.

    Args:
        versions: The model's versions by number.
        now: Present time, of `time.monotonic`.
    """
    unwanted = [v for v, managed in versions.items() if managed.stage is Stage.READY and not managed.aspired]
    aspired = [managed for managed in versions.values() if managed.aspired]
    covered = any(managed.stage is Stage.READY for managed in aspired)
    if unwanted and (not aspired or covered or len(unwanted) > 1):
        return Action.UNLOAD, min(unwanted)
    version = next_to_load(versions)
    return None if version is None or versions[version].due > now else (Action.LOAD, version)


class VersionManager:
    """Owner of the loaded versions and of the thread that changes them.

    Args:
        load: Function that loads a version.
        board: Board to post each change of state on.
        max_retries: Number of times that a failed load is tried again.
        retry_interval_s: Shortest time between two tries, in seconds.
        patience_s: Longest time for which other versions wait for one try to load a version, or for its unload.
    """

    def __init__(
        self,
        load: Load,
        board: StatusBoard,
        *,
        max_retries: int,
        retry_interval_s: float,
        patience_s: float = PATIENCE_S,
    ):
        self._load = load
        self._board = board
        self._max_retries = max_retries
        self._retry_interval_s = retry_interval_s
        self._patience_s = patience_s
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._pending: dict[str, Mapping[int, str]] = {}  # guarded by _lock
        self._ready: dict[str, dict[int, Servable]] = {}  # guarded by _lock
        self._ended: list[Step] = []  # steps whose result the thread has not seen yet; guarded by _lock
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
            self._changed.notify_all()

    def lease(self, model: str, version: int | None = None) -> Servable:
        """Lease a version to run a request on; it is not unloaded before the `with` block around it ends.

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
        return servable

    def stop(self, grace_s: float) -> None:
        """Stop the thread and unload every version, after at most `grace_s` seconds for requests in progress."""
        self._stop.set()
        with self._lock:
            self._changed.notify_all()
            servables = [servable for versions in self._ready.values() for servable in versions.values()]
            self._ready.clear()
            loaded = [step.session for step in self._ended if step.session is not None]
            self._ended.clear()
        for session in loaded:
            session.close()
        for servable in servables:
            servable.retire(grace_s)
        if self._thread.is_alive():
            self._thread.join(grace_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._take_pending()
            self._take_ended()
            if (step := self._next_step(time.monotonic())) is not None:
                self._perform(step)
                continue
            due = [versions[v].due for versions in self._managed.values() if (v := next_to_load(versions)) is not None]
            rest = max(0.0, min(due) - time.monotonic()) if due else None
            with self._lock:
                self._changed.wait_for(lambda: self._pending or self._ended or self._stop.is_set(), rest)

    def _next_step(self, now: float) -> Step | None:
        """Return the next step over all models: unloads first, then versions that have not been tried yet."""
        steps = [
            (*action, model) for model, versions in self._managed.items() if (action := next_action(versions, now))
        ]
        if not steps:
            return None
        action, version, model = min(steps, key=lambda step: (step[0], self._managed[step[2]][step[1]].due))
        return Step(action, model, version)

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
                if not known.aspired and known.stage not in (Stage.READY, Stage.BUSY):
                    if known.stage is Stage.RETRY:
                        self._board.post(model, version, State.END, known.error)
                    del managed[version]
            if not managed:
                del self._managed[model]

    def _take_ended(self) -> None:
        with self._lock:
            ended, self._ended = self._ended, []
        for step in ended:
            self._finish(step, self._managed[step.model][step.version])

    def _finish(self, step: Step, managed: Managed) -> None:
        """Put the result of a step in force; a version that is no longer wanted is closed if there is a wanted one."""
        model, version = step.model, step.version
        if step.session is not None and self._publish(step, managed):
            managed.stage = Stage.READY
            self._board.post(model, version, State.AVAILABLE)
            _log.info("Serving version %d of model %s from %s", version, model, managed.path)
            return
        if step.session is not None:
            step.session.close()
        if step.action is Action.LOAD and step.error is not None and self._retry(managed, step.error):
            return
        self._board.post(model, version, State.END, step.error)
        if step.action is Action.UNLOAD:
            _log.info("Unloaded version %d of model %s", version, model)
        if step.error is not None and managed.aspired:
            managed.stage = Stage.FAILED
        elif managed.aspired:  # it was wanted again while it was unloaded
            self._managed[model][version] = Managed(managed.path)
            self._board.post(model, version, State.START)
        else:
            del self._managed[model][version]
            if not self._managed[model]:
                del self._managed[model]

    def _retry(self, managed: Managed, error: ServingError) -> bool:
        """Return whether a version that could not be loaded is tried again, and when it is due, if so."""
        if not managed.aspired or managed.retries >= self._max_retries:
            return False
        managed.stage, managed.error = Stage.RETRY, error
        managed.retries += 1
        managed.due = time.monotonic() + self._retry_interval_s
        return True

    def _publish(self, step: Step, managed: Managed) -> bool:
        """Return whether a loaded version answers requests from now on."""
        others = self._managed[step.model].values()
        if not managed.aspired and any(other.aspired and other.stage is Stage.READY for other in others):
            return False
        with self._lock:
            if self._stop.is_set() or step.session is None:
                return False
            servable = Servable(step.model, step.version, step.session, managed.path)
            self._ready.setdefault(step.model, {})[step.version] = servable
        return True

    def _perform(self, step: Step) -> None:
        """Start a step, and wait until it has ended or may hang."""
        managed = self._managed[step.model][step.version]
        tried, managed.stage = managed.stage is Stage.RETRY, Stage.BUSY
        if step.action is Action.LOAD:
            if not tried:
                self._board.post(step.model, step.version, State.LOADING)
            work = functools.partial(self._try_to_load, step, managed.path)
        else:
            self._board.post(step.model, step.version, State.UNLOADING)
            with self._lock:
                servable = self._ready[step.model].pop(step.version)
            work = servable.retire
        try:
            threading.Thread(target=self._work, args=(step, work), name="version-step", daemon=True).start()
        except RuntimeError:  # no more threads can be started
            self._work(step, work)
        if not self._wait(step):
            _log.error("%s takes longer than %g s; nothing else waits for it now", step, self._patience_s)

    def _wait(self, step: Step) -> bool:
        """Return whether a step has ended; False once it takes longer than the patience."""
        with self._lock:
            left = max(0.0, step.since + self._patience_s - time.monotonic())
            return self._changed.wait_for(lambda: step.ended or self._stop.is_set(), left)

    def _work(self, step: Step, work: Callable[[], None]) -> None:
        """Run a step on its own thread."""
        try:
            work()
        except Exception as error:  # no failure of a model may leave its version without a state
            _log.exception("%s failed", step)
            step.error = ServingError(Code.UNKNOWN, f"{type(error).__name__}: {error}")
        with self._lock:
            step.ended, stopped = True, self._stop.is_set()
            if not stopped:
                self._ended.append(step)
            self._changed.notify_all()
        if stopped and step.session is not None:
            step.session.close()

    def _try_to_load(self, step: Step, path: str) -> None:
        try:
            step.session = self._load(step.model, step.version, path)
            return
        except ServingError as caught:
            step.error = caught
        except Exception as caught:
            _log.exception(
                "Version %d of model %s: unexpected failure while loading %s", step.version, step.model, path
            )
            step.error = ServingError(Code.UNKNOWN, f"{type(caught).__name__}: {caught}")
        _log.error("Version %d of model %s cannot be loaded from %s: %s", step.version, step.model, path, step.error)
