"""The models a server serves: configuration in, leases on loaded versions out."""

from __future__ import annotations

import contextlib
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
from kseq_serving.models.version_source import Found, VersionSource
from kseq_serving.protocol.protos import ConfigProto, ModelConfig, ModelServerConfig, ModelSpec

_log = logging.getLogger(__name__)


class ServerCore:
    """Everything behind the two protocols.

    Args:
        flags: the server's options.
        session_config: the options of every TensorFlow session.
    """

    def __init__(self, flags: Flags, session_config: ConfigProto):
        self.flags = flags
        self.board = StatusBoard()
        self.metrics = Metrics()
        self._session_config = session_config
        self._batching = batching_options.from_flags(flags)
        self._scheduler = BatchScheduler(self._batching.threads) if self._batching else None
        self._manager = VersionManager(
            self._load,
            self.board,
            max_retries=flags.max_num_load_retries,
            retry_interval_s=flags.load_retry_interval_micros / 1e6,
        )
        self._source = VersionSource(self._manager, flags.file_system_poll_wait_seconds)
        self._reload = threading.Lock()
        self._models: Sequence[ModelConfig] = ()  # guarded by _reload
        self._labels: dict[str, dict[str, int]] = {}  # replaced as a whole
        self._names: frozenset[str] = frozenset()  # of the models; replaced as a whole
        self._stop = threading.Event()

    def start(self, config: ModelServerConfig) -> None:
        """Loads the models of the first configuration; returns when each has an available version.

        Raises:
            ServingError: the configuration is wrong, or a model ended before it became available.
        """
        self._manager.start()
        new, since = self._adopt(config, must_exist=False)
        self._source.start()
        self._await(new, since=since)

    def reload(self, config: ModelServerConfig, *, wait: bool = True, timeout_s: float | None = None) -> None:
        """Moves to another configuration; its new models are loaded while the old ones are served.

        Args:
            config: the models from now on.
            wait: whether to wait for the new models.
            timeout_s: the longest to wait; None for no limit.

        Raises:
            ServingError: the configuration is refused, and the old one stays; or it is in force, and a new model ended
                before it became available, or was removed by yet another configuration.
        """
        new, since = self._adopt(config, must_exist=True)
        if wait:
            self._await(new, since=since, timeout_s=timeout_s)

    def context(self, model: str, timeout_s: float | None) -> RunContext:
        """How a run for a request is bounded and timed.

        Args:
            model: the name the client gave the model.
            timeout_s: the longest the run may take; None for no limit.
        """
        return RunContext(timeout_s, model, self.metrics, self.flags.enable_signature_method_name_check)

    def record(self, model: str, code: Code, *, api: str, entrypoint: str, seconds: float) -> None:
        """Counts an answered request, and times it if the answer is OK."""
        if code is Code.OK:
            self.metrics.request_latency(model, api, entrypoint, seconds)
        self.metrics.request(model, code, served=code is Code.OK or self.board.knows(model))

    def lease(self, spec: ModelSpec) -> contextlib.AbstractContextManager[Servable]:
        """The version a request asks for, by number, by label, or the latest, held until the ``with`` block ends.

        Raises:
            ServingError: there is no such label or version.
        """
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
        """Makes ``start`` give up waiting."""
        self._stop.set()
        self.board.wake()

    def stop(self, grace_s: float) -> None:
        """Frees all models; requests have ``grace_s`` seconds to end before."""
        self.interrupt()
        self._source.stop()
        self._manager.stop(grace_s)

    def _adopt(self, config: ModelServerConfig, *, must_exist: bool) -> tuple[frozenset[str], int]:
        """Takes a configuration over.

        Args:
            config: the models from now on.
            must_exist: whether to refuse new models that have no version to load yet.

        Returns:
            The names of the models that are new, and how many changes of state there were before.
        """
        kind = config.WhichOneof("config")
        if kind is None:
            _log.warning("The configuration is empty: nothing to serve")
            return frozenset(), 0
        if kind != "model_config_list":
            raise InvalidArgumentError("ModelServer does not yet support custom model config.")
        models = list(config.model_config_list.config)
        model_config.validate(models, self._models)
        # Not under the lock: a folder may hang.
        found = self._source.look(models)
        with self._reload:
            labels = self._assign_labels(models)
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
                # A label in use never moves to a version that cannot answer.
                moves = self._labels.get(model.name, {}).get(label, version) != version
                unchecked = self.flags.allow_version_labels_for_unavailable_models and not moves
                if not unchecked and not self.board.is_available(model.name, version):
                    raise FailedPreconditionError(
                        f"Request to assign label to version {version} of model {model.name}, which is not currently "
                        "available for inference"
                    )
        return {model.name: dict(model.version_labels) for model in models if model.version_labels}

    def _await(self, names: frozenset[str], *, since: int = 0, timeout_s: float | None = None) -> None:
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
            raise ServingError(Code.UNKNOWN, f"{len(ended)} servable(s) did not become available: {{{reasons}}}")

    def _load(self, model: str, _version: int, path: str) -> ModelSession:
        loaded = SavedModelSession(path, self.flags.saved_model_tags.split(","), self._session_config)
        session: ModelSession = loaded
        try:
            if loaded.lacks_variables:
                self._check_alone(model, path)
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

    def _check_alone(self, model: str, path: str) -> None:
        """Refuses a version that would fail every request where another one answers them."""
        statuses = self.board.versions(model).items()
        if serving := [version for version, status in statuses if status.state is State.AVAILABLE]:
            raise NotFoundError(
                f"Could not find the variables at {path}/variables. Version {max(serving)} of model {model} stays."
            )


def _check_found(found: Iterable[Found], names: Collection[str]) -> None:
    """Refuses new models that have nothing to load: whoever waits for them would wait for ever."""
    for one in found:
        if one.model.name in names and not one.versions:
            raise NotFoundError(
                f"Could not find any version of model {one.model.name} that is to be served at base path "
                f"{one.model.base_path}, which {one.problem}"
            )
