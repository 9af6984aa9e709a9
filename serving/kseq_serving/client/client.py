"""The client for programs without an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import numpy as np
import uvloop
from google.protobuf.message import Message

from kseq_serving.client.address import TlsOptions
from kseq_serving.client.answers import ModelMetadata, VersionStatus
from kseq_serving.client.async_client import (
    DEFAULT_SIGNATURE,
    DEFAULT_TIMEOUT_S,
    MAX_MESSAGE_BYTES,
    PROBE_TIMEOUT_S,
    AsyncKseqClient,
)
from kseq_serving.client.examples import Example
from kseq_serving.client.retry import RetryPolicy
from kseq_serving.client.transport import Classes

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


class KseqClient:
    """Asks ``kseq-serve`` or ``tensorflow_model_server``, over gRPC or REST, by the same calls.

    Only the address says which protocol is spoken. Both give equal arrays: what REST's JSON leaves out, the dtypes and
    the name of a single output, is taken from the signature, which is fetched once and kept until something does not
    fit it. (A new version that does nothing but rename its one output, or change its precision, fits; ask for a
    ``version`` where that matters.)

    Any number of threads may use one client, which keeps its connections. It runs on an event loop in a thread of its
    own, which ends with ``close``; it does not survive a fork, so make one in each process.

    A call that fails in a way that another attempt may mend is tried again (``RetryPolicy``), within ``timeout_s``,
    which bounds all of the call. Proxies of the environment are not used.

    Args:
        address: ``grpc://HOST:PORT``, ``grpcs://HOST:PORT``, ``unix:/PATH`` (gRPC), ``http://HOST[:PORT]`` or
            ``https://HOST[:PORT]``; the last two may have a path that comes before ``/v1/models``.
        tls: authorities and certificates for ``grpcs`` and ``https``; None for the system's.
        retry: what is tried again, and when; None for ``RetryPolicy()``.
        max_message_bytes: the largest answer, and over gRPC the largest request.

    Raises:
        ValueError: the address is none, or ``tls`` does not go with it.

    Example:
        >>> with KseqClient("http://127.0.0.1:8501") as client:
        ...     client.wait_until_ready("dates", timeout_s=30)
        ...     client.predict("dates", {"text": ["3 mai 1979"]})["text"]
        array([['1979-05-03', ...]], dtype=object)
    """

    def __init__(
        self,
        address: str,
        *,
        tls: TlsOptions | None = None,
        retry: RetryPolicy | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ):
        self._client = AsyncKseqClient(address, tls=tls, retry=retry, max_message_bytes=max_message_bytes)
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._closed = False  # guarded by _lock
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"KseqClient {address}", daemon=True)
        self._thread.start()

    def __enter__(self) -> KseqClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections for good; calls of other threads that are under way raise RuntimeError."""
        with self._lock:
            first, self._closed = not self._closed, True
        if first:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self) -> None:
        """Ends what is under way, which the loop would never come back to, and closes the connections."""
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: int | None = None,
        label: str | None = None,
        signature_name: str = DEFAULT_SIGNATURE,
        output_filter: Sequence[str] = (),
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> dict[str, np.ndarray]:
        """Runs a signature of a model.

        Args:
            model: its name.
            inputs: array-likes by the names of the signature's inputs, the batch first as the model wants it. Numbers
                are cast to the signature's dtypes where that loses nothing but precision; strings are str or bytes.
            version: the version; None for the newest.
            label: a version's label, instead of its number.
            signature_name: the signature.
            output_filter: the outputs that are wanted; empty for all.
            timeout_s: how long the call may take, in seconds.

        Returns:
            Arrays by the names of the signature's outputs. Strings are object arrays of str, bytes that are not UTF-8
            in them surrogate escapes (``text.encode("utf-8", "surrogateescape")`` gives them back); of bytes where
            the output's name ends in ``_bytes``, which marks what is no text.

        Raises:
            CallError: the server refused, or did not answer in time.
            ValueError: an input is ragged, or of a dtype that is not the signature's.
        """
        return self._run(
            self._client.predict,
            model,
            inputs,
            version=version,
            label=label,
            signature_name=signature_name,
            output_filter=output_filter,
            timeout_s=timeout_s,
        )

    def classify(
        self,
        model: str,
        examples: Sequence[Example],
        *,
        context: Example | None = None,
        version: int | None = None,
        label: str | None = None,
        signature_name: str = DEFAULT_SIGNATURE,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Classes:
        """Runs a signature that classifies ``tf.train.Example``.

        Args:
            model: its name.
            examples: features by name; each is a str, bytes, int or float, or a list of one of these.
            context: features that all examples share.
            version: the version; None for the newest.
            label: a version's label, instead of its number.
            signature_name: the signature.
            timeout_s: how long the call may take, in seconds.

        Returns:
            For each example its classes, ``(label, score)``.

        Raises:
            CallError: the server refused, or did not answer in time.
            ValueError: a feature is none.
        """
        return self._run(
            self._client.classify,
            model,
            examples,
            context=context,
            version=version,
            label=label,
            signature_name=signature_name,
            timeout_s=timeout_s,
        )

    def regress(
        self,
        model: str,
        examples: Sequence[Example],
        *,
        context: Example | None = None,
        version: int | None = None,
        label: str | None = None,
        signature_name: str = DEFAULT_SIGNATURE,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> np.ndarray:
        """Runs a signature that gives ``tf.train.Example`` a number; the arguments are ``classify``'s.

        Returns:
            float32, ``(examples,)``.

        Raises:
            CallError: the server refused, or did not answer in time.
            ValueError: a feature is none.
        """
        return self._run(
            self._client.regress,
            model,
            examples,
            context=context,
            version=version,
            label=label,
            signature_name=signature_name,
            timeout_s=timeout_s,
        )

    def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> ModelMetadata:
        """What a version offers: its signatures with the names, dtypes and shapes of inputs and outputs.

        Raises:
            CallError: there is no such version, or no answer in time.
        """
        return self._run(self._client.metadata, model, version=version, label=label, timeout_s=timeout_s)

    def status(
        self, model: str, *, version: int | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> list[VersionStatus]:
        """Where the versions of a model stand, or the one version that is asked for.

        Raises:
            CallError: the server never knew the model or version, or did not answer in time.
        """
        return self._run(self._client.status, model, version=version, timeout_s=timeout_s)

    def reload(self, config: str | Message, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Moves the server to another configuration; returns when its new models are available. gRPC only.

        Args:
            config: a ModelServerConfig, or its text, as a ``--model_config_file`` holds it.
            timeout_s: how long that may take, in seconds.

        Raises:
            CallError: the server refused it; UNIMPLEMENTED over REST, which has no such call.
            ValueError: the text is no ModelServerConfig.
        """
        self._run(self._client.reload, config, timeout_s=timeout_s)

    def is_ready(self, model: str, *, version: int | None = None, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
        """Whether a version of the model, or the one asked for, answers requests now; asks once.

        Raises:
            CallError: the server refuses to tell.
        """
        return self._run(self._client.is_ready, model, version=version, timeout_s=timeout_s)

    def wait_until_ready(self, model: str, *, version: int | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Waits until ``is_ready``, for a server that is not up yet too.

        Raises:
            CallError: DEADLINE_EXCEEDED, with what the server said at last.
        """
        self._run(self._client.wait_until_ready, model, version=version, timeout_s=timeout_s)

    def _run(
        self,
        method: Callable[Arguments, Coroutine[Any, Any, Answer]],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Answer:
        if self._process != os.getpid():
            raise RuntimeError("A KseqClient does not survive a fork: make one in this process.")
        with self._lock:
            if self._closed:
                raise RuntimeError("This KseqClient is closed: make another one.")
            running = asyncio.run_coroutine_threadsafe(method(*args, **kwargs), self._loop)
        try:
            return running.result()
        except concurrent.futures.CancelledError as error:
            raise RuntimeError("This KseqClient was closed while the call was under way.") from error
        except BaseException:
            running.cancel()  # a KeyboardInterrupt reaches this thread alone
            raise
