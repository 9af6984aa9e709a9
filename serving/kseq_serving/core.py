"""The models a server serves: configuration in, leases on loaded versions out."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Collection, Sequence

from kseq_serving import model_config, warmup
from kseq_serving.errors import Code, FailedPreconditionError, InvalidArgumentError, ServingError
from kseq_serving.flags import Flags
from kseq_serving.lifecycle import State, StatusBoard
from kseq_serving.manager import VersionManager
from kseq_serving.protos import ConfigProto, ModelConfig, ModelServerConfig, ModelSpec
from kseq_serving.servable import Servable
from kseq_serving.session import SavedModelSession
from kseq_serving.version_source import VersionSource

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
        self._session_config = session_config
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
        self._stop = threading.Event()

    def start(self, config: ModelServerConfig) -> None:
        """Loads the models of the first configuration; returns when each has an available version.

        Raises:
            ServingError: the configuration is wrong, or a model ended before it became available.
        """
        self._manager.start()
        names = self._adopt(config)
        self._source.start()
        self._await(names)

    def reload(self, config: ModelServerConfig) -> None:
        """Moves to another configuration; its new models are loaded while the old ones are served.

        Raises:
            ServingError: the configuration is refused, and the old one stays.
        """
        self._adopt(config)
        self._source.poll()

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

    def _adopt(self, config: ModelServerConfig) -> set[str]:
        """Takes a configuration over and returns its models' names."""
        kind = config.WhichOneof("config")
        if kind is None:
            _log.warning("The configuration is empty: nothing to serve")
            return set()
        if kind != "model_config_list":
            raise InvalidArgumentError("ModelServer does not yet support custom model config.")
        models = list(config.model_config_list.config)
        with self._reload:
            model_config.validate(models, self._models)
            self._labels = self._assign_labels(models)
            self._models = models
            self._source.set_models(models)
        return {model.name for model in models}

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

    def _await(self, names: Collection[str]) -> None:
        settled = self.board.wait_until_settled(names, self._stop)
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

    def _load(self, model: str, version: int, path: str) -> SavedModelSession:
        session = SavedModelSession(path, self.flags.saved_model_tags.split(","), self._session_config)
        try:
            if self.flags.enable_model_warmup:
                warmup.replay(session, path, max(1, self.flags.num_request_iterations_for_warmup))
        except BaseException:
            session.close()
            raise
        return session
