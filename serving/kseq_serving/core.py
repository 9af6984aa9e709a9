"""Models of a server: adopts configurations and leases loaded versions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable, Sequence

from kseq_serving.batching import batching_options
from kseq_serving.batching.batch_scheduler import BatchScheduler
from kseq_serving.batching.batching_session import BatchingSession
from kseq_serving.errors import Code, FailedPreconditionError, InvalidArgumentError, NotFoundError, ServingError
from kseq_serving.flags import Flags
from kseq_serving.inference import warmup
from kseq_serving.metrics import Metrics
from kseq_serving.models import model_config
from kseq_serving.models.lifecycle import State, StatusBoard
from kseq_serving.models.manager import VersionManager
from kseq_serving.models.run_context import RunContext
from kseq_serving.models.servable import Servable
from kseq_serving.models.session import ModelSession, SavedModelSession
from kseq_serving.models.version_source import FoundVersions, VersionSource
from kseq_serving.protocol.protos import ConfigProto, ModelConfig, ModelServerConfig, ModelSpec

_log = logging.getLogger(__name__)


class ServerCore:
    """Models, batching and metrics of one server, shared by both protocols.

    Args:
        flags: Options of the server.
        session_config: Options of every TensorFlow session.
    """

    def __init__(self, flags: Flags, session_config: ConfigProto):
        self.flags = flags
        self.board = StatusBoard()
        self.metrics = Metrics()
        self._session_config = session_config
        self._batching = batching_options.from_flags(flags)
        batching = self._batching
        self._scheduler = BatchScheduler(batching.threads, at_once=batching.at_once) if batching else None
        self._manager = VersionManager(
            self._load,
            self.board,
            max_retries=flags.max_num_load_retries,
            retry_interval_s=flags.load_retry_interval_micros / 1e6,
        )
        self._source = VersionSource(self._manager, flags.file_system_poll_wait_seconds)
        self._reload = threading.Lock()
        self._models: Sequence[ModelConfig] = ()  # guarded by _reload
        # Read without the lock: each is replaced as a whole, never changed.
        self._labels: dict[str, dict[str, int]] = {}  # versions by model and label
        self._names: frozenset[str] = frozenset()  # of the models
        self._stop = threading.Event()

    def start(self, config: ModelServerConfig) -> None:
        """Load the models of the first configuration, and return when each has an available version.

        Raises:
            ServingError: If the configuration is wrong, or a model cannot be loaded.
        """
        self._manager.start()
        new, since = self._adopt(config, must_exist=False)
        self._source.start()
        self._await(new, "servable", since=since)
        if not self._stop.is_set():
            model_config.check_request_logs(config.model_config_list.config)  # last, as in TensorFlow Serving

    def reload(self, config: ModelServerConfig, *, wait: bool = True, timeout_s: float | None = None) -> None:
        """Adopt another configuration; its new models are loaded while the old ones are served.

        Args:
            config: Models to serve from now on.
            wait: Whether to wait until the new models are available.
            timeout_s: Longest time to wait, in seconds; None for no limit.

        Raises:
            ServingError: If the configuration is refused; then the old one stays in force. Or if a new model cannot be
                loaded in time or is removed by another configuration; then the new one stays in force.
        """
        new, since = self._adopt(config, must_exist=True)
        if wait:
            self._await(new, "model", since=since, timeout_s=timeout_s)

    def context(self, model: str, timeout_s: float | None) -> RunContext:
        """Return the time limit and the metrics for the run of one request.

        Args:
            model: Name of the model in the request.
            timeout_s: Longest time the run may take, in seconds; None for no limit.
        """
        return RunContext(timeout_s, model, self.metrics, self.flags.enable_signature_method_name_check)

    def record(self, model: str, code: Code, *, api: str, entrypoint: str, seconds: float) -> None:
        """Count an answered request, and record its latency if the status is OK."""
        if code is Code.OK:
            self.metrics.request_latency(model, api, entrypoint, seconds)
        self.metrics.request(model, code, served=code is Code.OK or self.board.knows(model))

    def lease(self, spec: ModelSpec) -> Servable:
        """Lease the version that a request asks for; it is not unloaded before the `with` block around it ends.

        Args:
            spec: Model, and the version by number or label; the latest version if it names none.

        Raises:
            ServingError: If there is no such label or version.
        """
        if not spec.name:
            raise InvalidArgumentError("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return self._manager.lease(spec.name, spec.version.value)
        if choice == "version_label":
            version = self._labels.get(spec.name, {}).get(spec.version_label)
            if version is None:
                raise InvalidArgumentError(f"Unrecognized servable version label: {spec.version_label}")
            return self._manager.lease(spec.name, version)
        return self._manager.lease(spec.name)

    def interrupt(self) -> None:
        """Make `start` give up waiting."""
        self._stop.set()
        self.board.wake()

    def stop(self, grace_s: float) -> None:
        """Unload all models, after at most `grace_s` seconds for requests in progress."""
        self.interrupt()
        self._source.stop()
        self._manager.stop(grace_s)

    def _adopt(self, config: ModelServerConfig, *, must_exist: bool) -> tuple[frozenset[str], int]:
        """Check a configuration and put it in force.

        Args:
            config: Models to serve from now on.
            must_exist: Whether to refuse new models that have no version to load yet, and request logs.

        Returns:
            Names of the new models, and the number of the last change of state before the adoption.
        """
        kind = config.WhichOneof("config")
        if kind is None:
            _log.warning("The configuration is empty: nothing to serve")
            return frozenset(), 0
        if kind != "model_config_list":
            raise InvalidArgumentError("ModelServer does not yet support custom model config.")
        models = list(config.model_config_list.config)
        model_config.validate(models, self._models)
        # Not under the lock, since a folder may hang.
        found = self._source.find(models)
        with self._reload:
            labels = self._assign_labels(models)
            model_config.check_platforms(models)
            if must_exist:
                model_config.check_request_logs(models)
            new = frozenset(model.name for model in models) - self._names
            if must_exist:
                _check_found(found, new)
            since = self.board.events
            self._labels, self._models = labels, models
            self._names = frozenset(model.name for model in models)
            self._source.adopt(found)
        self.board.wake()
        return new, since

    def _assign_labels(self, models: Sequence[ModelConfig]) -> dict[str, dict[str, int]]:
        for model in models:
            for label, version in model.version_labels.items():
                # A label in use never moves to a version that is not available.
                moves = self._labels.get(model.name, {}).get(label, version) != version
                unchecked = self.flags.allow_version_labels_for_unavailable_models and not moves
                if not unchecked and not self.board.is_available(model.name, version):
                    raise FailedPreconditionError(
                        f"Request to assign label to version {version} of model {model.name}, which is not currently "
                        "available for inference"
                    )
        return {model.name: dict(model.version_labels) for model in models if model.version_labels}

    def _await(self, names: frozenset[str], noun: str, *, since: int = 0, timeout_s: float | None = None) -> None:
        settled = self.board.wait_until_settled(
            names, lambda: self._stop.is_set() or not names <= self._names, since=since, timeout_s=timeout_s
        )
        if self._stop.is_set():
            return
        if removed := names - settled.keys() - self._names:
            raise ServingError(
                Code.ABORTED, f"Removed by another configuration before it was available: {','.join(sorted(removed))}"
            )
        if not settled.keys() >= names:
            raise ServingError(Code.DEADLINE_EXCEEDED, "The new models were not available before the deadline.")
        ended = {
            name: (version, status)
            for name, (version, status) in sorted(settled.items())
            if status.state is not State.AVAILABLE
        }
        if ended:
            reasons = "".join(
                f"{{{{name: {name} version: {version}}}"
                + (f" due to error: {status.error}" if status.error else "")
                + "}, "
                for name, (version, status) in ended.items()
            )
            raise ServingError(Code.UNKNOWN, f"{len(ended)} {noun}(s) did not become available: {{{reasons}}}")

    def _load(self, model: str, version: int, path: str) -> ModelSession:
        loaded = SavedModelSession(path, self.flags.saved_model_tags.split(","), self._session_config)
        session: ModelSession = loaded
        try:
            if loaded.problem:
                self._report(loaded, model, version, path)
            options = self._batching.of_version(path) if self._batching else None
            if options and self._scheduler:
                session = BatchingSession(session, options, self._scheduler, self.metrics)
            if self.flags.enable_model_warmup:
                warmup.replay(
                    session, path, self.context("", None), max(1, self.flags.num_request_iterations_for_warmup)
                )
        except BaseException:
            session.close()
            raise
        return session

    def _report(self, loaded: SavedModelSession, model: str, version: int, path: str) -> None:
        """Log why a version cannot answer; refuse it if it is unusable and another version is available."""
        statuses = self.board.versions(model).items()
        serving = [number for number, status in statuses if status.state is State.AVAILABLE]
        if serving and loaded.is_unusable:
            raise NotFoundError(
                f"{path} cannot answer. {loaded.problem} Version {max(serving)} of model {model} stays."
            )
        _log.error("Version %d of model %s in %s will fail requests. %s", version, model, path, loaded.problem)


def _check_found(found: Iterable[FoundVersions], names: Collection[str]) -> None:
    """Refuse new models that have nothing to load, since a client that waits for them would wait for ever."""
    for one in found:
        if one.model.name in names and not one.versions:
            raise NotFoundError(
                f"Could not find any version of model {one.model.name} that is to be served at base path "
                f"{one.model.base_path}, which {one.problem}"
            )
