"""HTTP for the REST API: aiohttp's server on the event loop, the models' work on threads.

It listens on the loopback address alone, as the protocol is plain text and knows no client. What a client could abuse
is bounded: headers by aiohttp, bodies by ``MAX_BODY_BYTES`` also after decompression, waiting by two timeouts.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError

from kseq_serving.errors import Code, ServingError
from kseq_serving.rest.api import Answer, Call, RestApi, html_answer
from kseq_serving.workers import Workers

HOST = "127.0.0.1"
MAX_BODY_BYTES = 512 * 2**20
MAX_WAITING_BYTES = 2 * MAX_BODY_BYTES  # of all bodies that are being received or wait for their answers
BODY_TIMEOUT_S = 30.0  # without a byte of a body that was announced
IDLE_TIMEOUT_S = 75.0  # without a whole request head on an open connection
SEND_TIMEOUT_S = 1.0  # for answers that are ready when the server stops
STOPPING = "The server is stopping."

_GZIP = zlib.MAX_WBITS | 16  # zlib's way to ask for gzip's header


class _OwnFaults(logging.Filter):
    """Keeps what the library logs of requests that are no HTTP out of the log: a client could fill the disk with it."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_log = logging.getLogger(__name__)
_log.addFilter(_OwnFaults())


class _Connection(web.RequestHandler):
    """A connection on which a target that is no path gets the page that any unknown path gets."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, InvalidURLError):
            return _response(html_answer(404, "Not Found"))
        return super().handle_error(request, status, exc, message)


class _Server(web.Server):
    """The library's server over connections of our own class; ``options`` are theirs."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **options: Any):
        # The call of a client that has gone leaves the queue.
        super().__init__(handler, handler_cancellation=True)
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._options)


class _TooLargeError(ServingError):
    """A body that will never be taken."""


class HttpServer:
    """Serves the REST API on one port.

    Args:
        api: answers the calls.
        workers: where they are answered.
        grace_s: how long calls in progress may take when the server stops.
    """

    def __init__(self, api: RestApi, workers: Workers, *, grace_s: float):
        self._api = api
        self._workers = workers
        self._grace_s = grace_s
        self._runner: web.ServerRunner | None = None
        self._in_progress = 0
        self._waiting_bytes = 0
        self._stopping = False
        self._idle = asyncio.Event()  # nothing is in progress; kept only when stopping

    async def start(self, port: int) -> None:
        """Starts to listen.

        Raises:
            OSError: the port cannot be had.
        """
        server = _Server(
            self._handle, auto_decompress=False, access_log=None, logger=_log, keepalive_timeout=IDLE_TIMEOUT_S
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=SEND_TIMEOUT_S)
        await self._runner.setup()
        # Without reuse_port a second server on the port is an error and not a silent rival.
        await web.TCPSite(self._runner, HOST, port, reuse_port=False).start()

    async def stop(self) -> None:
        """Closes the port, and the connections once their calls have ended or the grace is over.

        What still comes over open connections meanwhile is answered with UNAVAILABLE.
        """
        if self._runner is None:
            return
        self._stopping = True
        for site in self._runner.sites:
            await site.stop()
        if self._in_progress:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), self._grace_s)
        await self._runner.cleanup()
        self._workers.stop()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._stopping:
            return _response(self._api.refuse(_call(request), ServingError(Code.UNAVAILABLE, STOPPING), close=True))
        self._in_progress += 1
        try:
            return _response(await self._answer(request))
        finally:
            self._in_progress -= 1
            if self._stopping and not self._in_progress:
                self._idle.set()

    async def _answer(self, request: web.BaseRequest) -> Answer:
        chunks: list[bytes] = []
        try:
            await self._read(request, chunks)
            return await self._workers.run(functools.partial(self._run, request, chunks))
        except _TooLargeError as error:
            return dataclasses.replace(self._api.refuse(_call(request), error, close=True), status=413)
        except ServingError as error:  # what is left of a body is not read
            return self._api.refuse(_call(request), error, close=not request.content.at_eof())
        except TimeoutError:
            return Answer(408, {"Content-Type": "text/plain"}, b"", close=True)
        finally:
            self._waiting_bytes -= sum(map(len, chunks))

    async def _read(self, request: web.BaseRequest, chunks: list[bytes]) -> None:
        """Receives the body into ``chunks``, which count as waiting until the request is answered."""
        _check_size(request.content_length or 0)
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the interim answer is no part of the answer
        size = 0
        while not request.content.at_eof():
            async with asyncio.timeout(BODY_TIMEOUT_S):
                chunk = await request.content.readany()
            chunks.append(chunk)
            size += len(chunk)
            self._waiting_bytes += len(chunk)
            _check_size(size)
            if self._waiting_bytes > MAX_WAITING_BYTES:
                raise ServingError(
                    Code.RESOURCE_EXHAUSTED,
                    f"The requests that wait have more than {MAX_WAITING_BYTES} bytes. Try again later.",
                )

    def _run(self, request: web.BaseRequest, chunks: Sequence[bytes]) -> Answer:
        body = b"".join(chunks)
        if "gzip" in request.headers.get("Content-Encoding", ""):
            body = decompress(body)
        return self._api.answer(_call(request, body))


def _call(request: web.BaseRequest, body: bytes = b"") -> Call:
    return Call(request.method, request.raw_path, body, request.headers.get("Origin", ""))


def _check_size(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise _TooLargeError(Code.RESOURCE_EXHAUSTED, f"The body is larger than {MAX_BODY_BYTES} bytes.")


def decompress(body: bytes) -> bytes:
    """A gzip body in plain; nothing when it is broken or too large, which then reads as an empty document."""
    stream = zlib.decompressobj(_GZIP)
    try:
        plain = stream.decompress(body, MAX_BODY_BYTES)
    except zlib.error:
        return b""
    return plain if stream.eof else b""


def _response(answer: Answer) -> web.Response:
    response = web.Response(status=answer.status, headers=answer.headers, body=answer.body)
    if answer.close:
        response.force_close()
    return response
