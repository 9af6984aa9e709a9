"""Watch over the models' base paths, which tells the manager the version folders to serve."""

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
STOP_TIMEOUT_S = 1.0  # a file system that hangs must not keep the server from stopping

_VERSION_FOLDER = re.compile(r"[+-]?[0-9]+", re.ASCII)

_log = logging.getLogger(__name__)


def version_folders(names: Iterable[str]) -> dict[int, str]:
    """Return the folder names that are version numbers, by number; of equal numbers (`1`, `01`) the last name wins."""
    folders = {}
    for name in sorted(names):
        if _VERSION_FOLDER.fullmatch(name) and abs(int(name)) <= MAX_VERSION:
            folders[int(name)] = name
    return folders


def choose(policy: ServableVersionPolicy, available: Iterable[int]) -> list[int]:
    """Return the available versions that a policy selects; the default policy selects the latest one."""
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return list(available)
    if choice == "specific":
        return [version for version in available if version in policy.specific.versions]
    return sorted(available, reverse=True)[: max(policy.latest.num_versions, 1)]


@dataclasses.dataclass(frozen=True)
class FoundVersions:
    """Versions in a model's base path that its policy selects.

    Attributes:
        model: Configuration of the model.
        versions: Folders of the versions to serve, by number; None if the base path cannot be read.
        problem: Reason why there is nothing to serve; empty if there is something.
    """

    model: ModelConfig
    versions: Mapping[int, str] | None
    problem: str


class VersionSource:
    """Thread that polls the models' base paths for version folders.

    Args:
        manager: Manager that loads the versions.
        poll_interval_s: Time between two polls, in seconds; 0 polls once, and a negative number never.
        folders: Lister of folders; None for one with the default timeout.
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
        """Start polling."""
        if self._interval_s >= 0:
            self._thread.start()

    def stop(self) -> None:
        """Stop polling."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_S)

    def find(self, models: Sequence[ModelConfig]) -> list[FoundVersions]:
        """Find the versions of each model, within the timeout of folder listings."""
        names = self._folders.names(model.base_path for model in models)
        return [_found(model, names[model.base_path]) for model in models]

    def adopt(self, found: Sequence[FoundVersions]) -> None:
        """Watch these models from now on, and unload the models that were watched before and are not among them."""
        with self._lock:
            gone = {model.name for model in self._models} - {one.model.name for one in found}
            self._models = [one.model for one in found]
            for name in gone:
                self._complaints.pop(name, None)
                self._manager.set_aspired(name, {})
            for one in found if self._interval_s >= 0 else ():
                self._publish(one)

    def poll(self) -> None:
        """Poll every base path once."""
        with self._lock:
            models = self._models
        found = self.find(models)
        with self._lock:
            # The configuration may have changed meanwhile; then what was found is out of date.
            for one in found if self._models is models else ():
                self._publish(one)

    def _run(self) -> None:
        while True:
            try:
                self.poll()
            except Exception:  # no failure of a file system may end the watch
                _log.exception("Looking for new versions failed")
            if not self._interval_s or self._stop.wait(self._interval_s):
                return

    def _publish(self, found: FoundVersions) -> None:
        """Tell the manager the versions to serve; a base path that cannot be read unloads nothing."""
        if found.problem:
            self._warn(found)
        else:
            self._complaints.pop(found.model.name, None)
        if found.versions is not None:
            self._manager.set_aspired(found.model.name, found.versions)

    def _warn(self, found: FoundVersions) -> None:
        """Log a problem when it is new, not at every poll."""
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


def _found(model: ModelConfig, names: list[str] | OSError) -> FoundVersions:
    if isinstance(names, OSError):
        return FoundVersions(model, None, f"cannot be read ({names.strerror})")
    folders = version_folders(names)
    base = Path(model.base_path)
    wanted = {version: str(base / folders[version]) for version in choose(model.model_version_policy, folders)}
    if wanted:
        return FoundVersions(model, wanted, "")
    if {"saved_model.pb", "saved_model.pbtxt"}.isdisjoint(names):
        return FoundVersions(model, wanted, "holds no version that is to be served")
    return FoundVersions(model, wanted, "is the folder of a version, so give the folder that it is in")
