"""Watches the models' base paths and tells the manager which version folders to serve."""

from __future__ import annotations

import dataclasses
import logging
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kseq_serving.models.folders import Folders
from kseq_serving.models.manager import VersionManager
from kseq_serving.protocol.protos import ModelConfig, ServableVersionPolicy

MAX_VERSION = 2**63 - 1
STOP_TIMEOUT_S = 1.0  # a file system that does not answer must not keep the server

_VERSION_FOLDER = re.compile(r"[+-]?[0-9]+", re.ASCII)

_log = logging.getLogger(__name__)


def version_folders(names: Iterable[str]) -> dict[int, str]:
    """The folder names that are version numbers, by number; of two that say the same number one wins."""
    folders = {}
    for name in sorted(names):
        if _VERSION_FOLDER.fullmatch(name) and abs(int(name)) <= MAX_VERSION:
            folders[int(name)] = name
    return folders


def choose(policy: ServableVersionPolicy, available: Iterable[int]) -> list[int]:
    """The versions that a policy wants of those there are; the default is the latest one."""
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return list(available)
    if choice == "specific":
        return [version for version in available if version in policy.specific.versions]
    return sorted(available, reverse=True)[: max(policy.latest.num_versions, 1)]


@dataclasses.dataclass(frozen=True)
class Found:
    """What a look at a model's base path found.

    Attributes:
        model: whose it is.
        versions: the folders that are to be served, by version; None if the base path cannot be read.
        problem: why there is nothing to serve; empty if there is.
    """

    model: ModelConfig
    versions: Mapping[int, str] | None
    problem: str


class VersionSource:
    """Looks for version folders, once or again and again, in a thread of its own.

    Args:
        manager: who is told.
        poll_interval_s: seconds between two looks; 0 looks once, less never looks.
        folders: how to look.
    """

    def __init__(self, manager: VersionManager, poll_interval_s: float, folders: Folders | None = None):
        self._manager = manager
        self._interval_s = poll_interval_s
        self._folders = folders or Folders()
        self._lock = threading.Lock()
        self._models: Sequence[ModelConfig] = ()  # guarded by _lock
        self._complaints: dict[str, str] = {}  # guarded by _lock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="version-source", daemon=True)

    def start(self) -> None:
        """Starts looking."""
        if self._interval_s >= 0:
            self._thread.start()

    def stop(self) -> None:
        """Stops looking."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_S)

    def look(self, models: Sequence[ModelConfig]) -> list[Found]:
        """What there is of each model; takes no longer than looks may."""
        names = self._folders.names(model.base_path for model in models)
        return [_found(model, names[model.base_path]) for model in models]

    def adopt(self, found: Sequence[Found]) -> None:
        """Replaces the models to watch by those that were looked at; those that are gone are unloaded."""
        with self._lock:
            gone = {model.name for model in self._models} - {one.model.name for one in found}
            self._models = [one.model for one in found]
            for name in gone:
                self._complaints.pop(name, None)
                self._manager.set_aspired(name, {})
            for one in found if self._interval_s >= 0 else ():
                self._tell(one)

    def poll(self) -> None:
        """Looks at every base path once."""
        with self._lock:
            models = self._models
        found = self.look(models)
        with self._lock:
            # What was found for another configuration is of no use.
            for one in found if self._models is models else ():
                self._tell(one)

    def _run(self) -> None:
        while True:
            try:
                self.poll()
            except Exception:  # A bad file system must not end the watch.
                _log.exception("Looking for new versions failed")
            if not self._interval_s or self._stop.wait(self._interval_s):
                return

    def _tell(self, found: Found) -> None:
        """Tells the manager what to serve; a base path that cannot be read unloads nothing."""
        if found.problem:
            self._complain(found)
        else:
            self._complaints.pop(found.model.name, None)
        if found.versions is not None:
            self._manager.set_aspired(found.model.name, found.versions)

    def _complain(self, found: Found) -> None:
        """Logs a problem when it is new, not at every look."""
        model = found.model
        if self._complaints.get(model.name) != found.problem:
            self._complaints[model.name] = found.problem
            _log.warning(
                "Nothing to serve: the base path %s of model %s %s. Expected there: a folder whose name is the version "
                "number and that holds saved_model.pb, for example %s. Still looking.",
                model.base_path,
                model.name,
                found.problem,
                Path(model.base_path) / "1" / "saved_model.pb",
            )


def _found(model: ModelConfig, names: list[str] | OSError) -> Found:
    if isinstance(names, OSError):
        return Found(model, None, f"cannot be read ({names.strerror})")
    folders = version_folders(names)
    base = Path(model.base_path)
    wanted = {version: str(base / folders[version]) for version in choose(model.model_version_policy, folders)}
    return Found(model, wanted, "" if wanted else "holds no version that is to be served")
