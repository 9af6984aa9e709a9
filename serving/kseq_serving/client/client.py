"""Client for programs without an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import os
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import uvloop

from kseq_serving.client.address import TlsOptions
from kseq_serving.client.async_client import MAX_MESSAGE_BYTES, AsyncKseqClient
from kseq_serving.client.retry import RetryPolicy

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _blocking(
    method: Callable[Concatenate[AsyncKseqClient, Arguments], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[KseqClient, Arguments], Result]:
    """Make a method of `KseqClient` from one of `AsyncKseqClient`, with the same arguments and docstring."""
    known = list(inspect.signature(method).parameters)[1:]

    @functools.wraps(method)
    def call(self: KseqClient, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        for name in kwargs:
            if name not in known:
                raise TypeError(f"KseqClient.{method.__name__} has no argument {name!r}. Its arguments are {known}.")
        return self._run(method, *args, **kwargs)

    call.__qualname__ = f"KseqClient.{method.__name__}"
    return call


class KseqClient:
    """Client of `kseq-serve` and `tensorflow_model_server`, over gRPC or REST.

    The address alone selects the protocol. The calls are the same for both, and return equal arrays: REST's JSON
    leaves out the dtypes and the name of a sole output, so the client takes them from the signature. It fetches the
    signature once and keeps it until a request or an answer does not fit. (If a new version only renames its sole
    output or changes its precision, everything still fits; ask for a `version` if that matters.)

    Any number of threads may share a client, which keeps its connections open. It runs an event loop in a thread of
    its own until `close`. It does not survive a fork, so make one in each process.

    A call that failed in a way that another attempt may mend is tried again (`RetryPolicy`). `timeout_s` bounds the
    whole call, retries included. Proxies of the environment are not used.

    Args:
        address: `grpc://HOST:PORT`, `grpcs://HOST:PORT`, `unix:/PATH` (gRPC), `http://HOST[:PORT]` or
            `https://HOST[:PORT]`; the last two may have a path, which comes before `/v1/models`.
        tls: Authorities and certificates for `grpcs` and `https`; None for the system's.
        retry: Which calls are tried again, and when; None for `RetryPolicy()`.
        max_message_bytes: Size of the largest answer, and over gRPC of the largest request.

    Raises:
        ValueError: If the address has no known form, or does not use `tls`.

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

    predict = _blocking(AsyncKseqClient.predict)
    classify = _blocking(AsyncKseqClient.classify)
    regress = _blocking(AsyncKseqClient.regress)
    metadata = _blocking(AsyncKseqClient.metadata)
    status = _blocking(AsyncKseqClient.status)
    reload = _blocking(AsyncKseqClient.reload)
    is_ready = _blocking(AsyncKseqClient.is_ready)
    wait_until_ready = _blocking(AsyncKseqClient.wait_until_ready)

    def close(self) -> None:
        """Close the connections for good; calls of other threads that are in progress raise RuntimeError."""
        with self._lock:
            first, self._closed = not self._closed, True
        if first:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self) -> None:
        """Cancel the calls in progress, which a stopped loop would leave waiting, and close the connections."""
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()

    def _run(
        self,
        method: Callable[Concatenate[AsyncKseqClient, Arguments], Coroutine[Any, Any, Result]],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        if self._process != os.getpid():
            raise RuntimeError("A KseqClient does not survive a fork: make one in this process.")
        with self._lock:
            if self._closed:
                raise RuntimeError("This KseqClient is closed: make another one.")
            running = asyncio.run_coroutine_threadsafe(method(self._client, *args, **kwargs), self._loop)
        try:
            return running.result()
        except concurrent.futures.CancelledError as error:
            raise RuntimeError("This KseqClient was closed while the call was under way.") from error
        except BaseException:
            running.cancel()  # a KeyboardInterrupt reaches this thread alone
            raise
