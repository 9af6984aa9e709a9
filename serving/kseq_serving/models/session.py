"""One SavedModel in TensorFlow's own session, which is what runs it in tensorflow_model_server too.

Numerics and the texts of runtime errors are therefore TensorFlow Serving's by construction. Runs go through the
session's C entry point and not through ``tf.compat.v1.Session.run``: that one casts what is fed to the dtype that the
graph wants, where TensorFlow Serving answers ``Expects arg[0] to be float but int32 is provided``, and it rewrites
error texts. It also costs six times as much per call.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

from kseq_serving.errors import Code, InvalidArgumentError, NotFoundError, ServingError
from kseq_serving.protocol.protos import ConfigProto, RunOptions, SavedModel, SignatureDef


class _Loader(SavedModelLoader):
    """TensorFlow's own, but like the one in C++ it loads a graph whose variables are missing."""

    lacks_variables = False

    def restore_variables(self, sess: tf.compat.v1.Session, saver: Any, import_scope: str | None = None) -> None:
        self.lacks_variables = saver is not None and not Path(f"{self.variables_path}.index").exists()
        if not self.lacks_variables:
            super().restore_variables(sess, saver, import_scope)


class ModelSession(Protocol):
    """A loaded version: its signatures, and runs of its graph from any thread."""

    @property
    def signatures(self) -> Mapping[str, SignatureDef]:
        """The signatures by name."""
        ...

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> dict[str, np.ndarray]:
        """Runs the graph: arrays by tensor name in, arrays by tensor name out."""
        ...

    def close(self) -> None:
        """Frees the version."""
        ...


class SavedModelSession:
    """A loaded SavedModel: its signatures, and runs of its graph from any thread.

    Args:
        path: the version folder, with ``saved_model.pb`` in it.
        tags: the tags of the graph to load.
        config: options of the session.

    Attributes:
        lacks_variables: whether the folder lacks the variables of the graph, so that what needs them fails.

    Raises:
        ServingError: the folder holds no such model.
    """

    def __init__(self, path: str, tags: Sequence[str], config: ConfigProto):
        _check_loadable(path, tags)
        self._graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=self._graph, config=config)
        loader = _Loader(path)
        try:
            meta_graph = loader.load(self._session, list(tags))
        except tf.errors.OpError as error:
            self._session.close()
            raise ServingError.from_tensorflow(error) from error
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            self._session.close()
            raise ServingError(Code.UNKNOWN, f"{path} cannot be loaded: {error}") from error
        # A later change of the graph would not be seen by the C session, so it must not happen unnoticed.
        self._graph.finalize()
        self.signatures: Mapping[str, SignatureDef] = dict(meta_graph.signature_def)
        self.lacks_variables = loader.lacks_variables
        self._outputs: dict[str, Any] = {}
        self._outputs_lock = threading.Lock()

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> dict[str, np.ndarray]:
        """Runs the graph once.

        Args:
            feeds: arrays by tensor name (``x:0``).
            fetches: tensor names.
            timeout_s: the longest the run may take; None for no limit.

        Returns:
            The fetched arrays by tensor name.

        Raises:
            ServingError: what the runtime reported.
        """
        names = list(dict.fromkeys(fetches))  # a signature may give one tensor two names
        options = None
        try:
            arguments = {self._endpoint(name): value for name, value in feeds.items()}
            endpoints = [self._endpoint(name) for name in names]
            options = _run_options(timeout_s)
            values = cast(
                Sequence[np.ndarray | bytes],
                pywrap_tf_session.TF_SessionRun_wrapper(
                    self._session._session, cast(Any, options), arguments, endpoints, [], cast(Any, None)
                ),
            )
        except tf.errors.OpError as error:
            raise ServingError.from_tensorflow(error) from error
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)
        return {name: _as_array(value) for name, value in zip(names, values, strict=True)}

    def close(self) -> None:
        """Frees the model; runs that are still going on are cancelled."""
        self._session.close()

    def _endpoint(self, name: str) -> Any:
        """The C handle of a tensor, looked up once per name."""
        endpoint = self._outputs.get(name)
        if endpoint is None:
            try:
                with self._outputs_lock:
                    endpoint = self._graph.get_tensor_by_name(name)._as_tf_output()
            except (KeyError, ValueError) as error:
                raise InvalidArgumentError(f"Tensor {name}, specified in a signature, is not in the graph") from error
            self._outputs[name] = endpoint
        return endpoint


def _as_array(value: np.ndarray | bytes) -> np.ndarray:
    """A result as an array; the session hands a single string out as bytes."""
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)


def _run_options(timeout_s: float | None) -> Any:
    if timeout_s is None:
        return None
    # 0 would mean no limit at all.
    return pywrap_tf_session.TF_NewBufferFromString(_serialized_options(max(1, int(timeout_s * 1000))))


@functools.lru_cache(maxsize=1024)
def _serialized_options(timeout_ms: int) -> bytes:
    return RunOptions(timeout_in_ms=timeout_ms).SerializeToString()


def _check_loadable(path: str, tags: Sequence[str]) -> None:
    """Finds what is wrong with a folder before TensorFlow's Python loader says it in other words."""
    model_file = Path(path) / "saved_model.pb"
    if not model_file.is_file():
        if (Path(path) / "saved_model.pbtxt").is_file():
            return
        raise NotFoundError(f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}")
    try:
        saved_model = SavedModel.FromString(model_file.read_bytes())
    except DecodeError as error:
        raise ServingError(Code.DATA_LOSS, f"Can't parse {model_file} as binary proto") from error
    if not any(set(meta_graph.meta_info_def.tags) == set(tags) for meta_graph in saved_model.meta_graphs):
        raise NotFoundError(
            f"Could not find meta graph def matching supplied tags: {{ {' '.join(sorted(tags))} }}. To inspect "
            "available tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
        )
