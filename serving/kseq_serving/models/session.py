"""Session of one SavedModel, run by the same TensorFlow runtime as in tensorflow_model_server.

Numbers and runtime error texts therefore equal TensorFlow Serving's. Runs call the session's C function directly
instead of `tf.compat.v1.Session.run`, which casts inputs to the graph's dtype (TensorFlow Serving answers
`Expects arg[0] to be float but int32 is provided`), rewrites error texts, and takes six times as long per call.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

from kseq_serving.errors import Code, InvalidArgumentError, NotFoundError, ServingError
from kseq_serving.models import own_thread, variables, xla
from kseq_serving.models.own_thread import ShortRuns
from kseq_serving.protocol.protos import ConfigProto, RunOptions, SavedModel, SignatureDef

_OWN_THREAD = -1  # number of the caller's thread in RunOptions


class _Loader(SavedModelLoader):
    """Loader that accepts a graph whose variables are missing, as TensorFlow's loader in C++ does."""

    lacks_variables = False

    def restore_variables(self, sess: tf.compat.v1.Session, saver: Any, import_scope: str | None = None) -> None:
        self.lacks_variables = saver is not None and not Path(f"{self.variables_path}.index").exists()
        if not self.lacks_variables:
            super().restore_variables(sess, saver, import_scope)


class ModelSession(Protocol):
    """Session of a loaded version, usable from any thread."""

    @property
    def signatures(self) -> Mapping[str, SignatureDef]:
        """Signatures by name."""
        ...

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph with arrays by tensor name, and return the fetched arrays by tensor name."""
        ...

    def close(self) -> None:
        """Unload the version."""
        ...


class SavedModelSession:
    """Session of a SavedModel, usable from any thread.

    Args:
        path: Version folder, which contains `saved_model.pb`.
        tags: Tags of the graph to load.
        config: Options of the session.

    Attributes:
        signatures: Signatures by name.
        problem: Reason why runs of some signatures will fail, and the way out; empty without one.
        is_unusable: Whether that is the default signature, or all of them if there is no default one.

    Raises:
        ServingError: If the folder has no such model.
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
        self.signatures: Mapping[str, SignatureDef] = dict(meta_graph.signature_def)
        missing = variables.without_value(self._session, self.signatures)
        self.problem = variables.problem(missing, no_file=loader.lacks_variables)
        named = {name for name in self.signatures if not name.startswith("__")}
        default = named & {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY}
        self.is_unusable = missing.keys() >= (default or named)
        # The C session would not see later changes of the graph, so they must raise an error.
        self._graph.finalize()
        self._short_runs = ShortRuns() if own_thread.always_ends(meta_graph) else None
        self._outputs: dict[str, Any] = {}
        self._outputs_lock = threading.Lock()

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph once.

        Args:
            feeds: Arrays by tensor name (`x:0`).
            fetches: Tensor names.
            timeout_s: Longest time the run may take, in seconds; None for no limit.

        Returns:
            The fetched arrays by tensor name.

        Raises:
            ServingError: If the run fails, with TensorFlow's code and text.
        """
        names = tuple(dict.fromkeys(fetches))  # a signature may give one tensor two names
        short_runs = self._short_runs
        kind = own_thread.kind_of(names, feeds.values())
        is_short = short_runs is not None and kind in short_runs
        options = None
        started = time.perf_counter()
        try:
            arguments = {self._endpoint(name): value for name, value in feeds.items()}
            endpoints = [self._endpoint(name) for name in names]
            options = _own_thread_options() if is_short else _run_options(timeout_s)
            values = cast(
                Sequence[np.ndarray | bytes],
                pywrap_tf_session.TF_SessionRun_wrapper(
                    self._session._session, cast(Any, options), arguments, endpoints, [], cast(Any, None)
                ),
            )
        except tf.errors.OpError as error:
            raise self._explained(error) from error
        except UnicodeDecodeError as error:  # TensorFlow's text, with bytes of the client in it
            raise InvalidArgumentError(error.object.decode("utf-8", "replace")) from error
        finally:
            if options is not None and not is_short:
                pywrap_tf_session.TF_DeleteBuffer(options)
        if short_runs is not None:
            short_runs.note(kind, time.perf_counter() - started)
        return {name: _as_array(value) for name, value in zip(names, values, strict=True)}

    def close(self) -> None:
        """Unload the model and cancel runs in progress."""
        self._session.close()

    def _explained(self, error: tf.errors.OpError) -> ServingError:
        """Return a run's error; one for a variable without a value, or for XLA, is followed by the way out."""
        explained = ServingError.from_tensorflow(error)
        explained.message = xla.explained(explained.message)
        if self.problem and explained.code is Code.FAILED_PRECONDITION:
            explained.message += f"\n{self.problem}"
        return explained

    def _endpoint(self, name: str) -> Any:
        """Return the C handle of a tensor, from a cache."""
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
    """Return a result as an array; the session returns a scalar string as bytes."""
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)


def _run_options(timeout_s: float | None) -> Any:
    if timeout_s is None:
        return None
    # At least 1 ms, since 0 means no limit.
    return pywrap_tf_session.TF_NewBufferFromString(_serialized_options(max(1, int(timeout_s * 1000))))


@functools.lru_cache(maxsize=1024)
def _serialized_options(timeout_ms: int) -> bytes:
    return RunOptions(timeout_in_ms=timeout_ms).SerializeToString()


@functools.cache
def _own_thread_options() -> Any:
    """Return the options of all runs on the caller's thread, which no time limit could end."""
    return pywrap_tf_session.TF_NewBufferFromString(RunOptions(inter_op_thread_pool=_OWN_THREAD).SerializeToString())


def _check_loadable(path: str, tags: Sequence[str]) -> None:
    """Refuse a folder that cannot be loaded, with the texts of TensorFlow Serving, not those of the Python loader."""
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
