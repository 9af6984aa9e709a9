"""Watches the models' base paths and tells the manager which version folders to serve."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kseq_serving.manager import VersionManager
from kseq_serving.protos import ModelConfig, ServableVersionPolicy

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


class VersionSource:
    """Looks for version folders, once or again and again, in a thread of its own.

    Args:
        manager: who is told.
        poll_interval_s: seconds between two looks; 0 looks once, less never looks.
    """

    def __init__(self, manager: VersionManager, poll_interval_s: float):
        self._manager = manager
        self._interval_s = poll_interval_s
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

    def set_models(self, models: Sequence[ModelConfig]) -> None:
        """Replaces the models to watch; those that are gone are unloaded."""
        with self._lock:
            gone = {model.name for model in self._models} - {model.name for model in models}
            self._models = models
            for name in gone:
                self._complaints.pop(name, None)
                self._manager.set_aspired(name, {})

    def poll(self) -> None:
        """Looks at every base path once."""
        with self._lock:
            for model in self._models:
                versions = self.find(model)
                if versions is not None:
                    self._manager.set_aspired(model.name, versions)

    def _run(self) -> None:
        while True:
            try:
                self.poll()
            except Exception:  # A bad file system must not end the watch.
                _log.exception("Looking for new versions failed")
            if not self._interval_s or self._stop.wait(self._interval_s):
                return

    def find(self, model: ModelConfig) -> Mapping[int, str] | None:
        """The wanted folders by version; None when the base path cannot be read, which unloads nothing."""
        base = Path(model.base_path)
        try:
            folders = version_folders(entry.name for entry in base.iterdir())
        except OSError as error:
            self._complain(model, f"the base path {base} of model {model.name} cannot be read ({error.strerror}).")
            return None
        wanted = {version: str(base / folders[version]) for version in choose(model.model_version_policy, folders)}
        if wanted:
            self._complaints.pop(model.name, None)
        else:
            self._complain(model, f"the base path {base} of model {model.name} holds no version that is to be served.")
        return wanted

    def _complain(self, model: ModelConfig, problem: str) -> None:
        """Logs a problem when it is new, not at every look."""
        if self._complaints.get(model.name) != problem:
            self._complaints[model.name] = problem
            _log.warning(
                "Nothing to serve: %s Expected there: a folder whose name is the version number and that holds "
                "saved_model.pb, for example %s. Still looking.",
                problem,
                Path(model.base_path) / "1" / "saved_model.pb",
            )
