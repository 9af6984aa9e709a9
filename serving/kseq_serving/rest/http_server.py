"""HTTP server of the REST API: aiohttp on the event loop, while worker threads answer the requests.

It listens on the loopback address alone, since the protocol has neither encryption nor authentication. aiohttp limits
the size of headers, `MAX_BODY_BYTES` that of bodies (also after decompression), and two timeouts the waiting.
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
from kseq_serving.ports import REST_HOST
from kseq_serving.rest.api import HttpRequest, HttpResponse, RestApi, html_response
from kseq_serving.workers import Workers

MAX_BODY_BYTES = 512 * 2**20
MAX_WAITING_BYTES = 2 * MAX_BODY_BYTES  # of all bodies that are being received or whose requests are not answered yet
BODY_TIMEOUT_S = 30.0  # longest time between two pieces of a body
IDLE_TIMEOUT_S = 75.0  # longest time that a connection may take to send the head of a request
SEND_TIMEOUT_S = 1.0  # longest time to send finished responses when the server stops
STOPPING = "The server is stopping."

_GZIP = zlib.MAX_WBITS | 16  # zlib's value for data with a gzip header


class _DropMalformed(logging.Filter):
    """Filter that drops aiohttp's log records of malformed HTTP, with which a client could fill the disk."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_log = logging.getLogger(__name__)
_log.addFilter(_DropMalformed())


class _Connection(web.RequestHandler):
    """Connection that answers a malformed request target like an unknown path."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, InvalidURLError):
            return _web_response(html_response(404, "Not Found"))
        return super().handle_error(request, status, exc, message)


class _Server(web.Server):
    """Server of aiohttp that makes connections of class `_Connection`, with `options`."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **options: Any):
        # If a client disconnects, its request leaves the queue.
        super().__init__(handler, handler_cancellation=True)
        self._options = options

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._options)


class _TooLargeError(ServingError):
    """Error for a body that exceeds the limit."""


class HttpServer:
    """HTTP server of the REST API on one port.

    Args:
        api: REST API that answers the requests.
        workers: Threads that run it.
        grace_s: Time for requests in progress when the server stops, in seconds.
    """

    def __init__(self, api: RestApi, workers: Workers, *, grace_s: float):
        self._api = api
        self._workers = workers
        self._grace_s = grace_s
        self._runner: web.ServerRunner | None = None
        self._in_progress = 0
        self._waiting_bytes = 0
        self._stopping = False
        self._idle = asyncio.Event()  # set while stopping, when no request is in progress any more

    async def start(self, port: int) -> None:
        """Start to listen.

        Raises:
            OSError: If the port cannot be used.
        """
        server = _Server(
            self._handle, auto_decompress=False, access_log=None, logger=_log, keepalive_timeout=IDLE_TIMEOUT_S
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=SEND_TIMEOUT_S)
        await self._runner.setup()
        # With reuse_port, a second server could listen on the same port and would get part of the connections.
        await web.TCPSite(self._runner, REST_HOST, port, reuse_port=False).start()

    async def stop(self) -> None:
        """Close the port, and then the connections when their requests are answered or `grace_s` is over.

        New requests on open connections are answered with UNAVAILABLE meanwhile.
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
            return _web_response(
                self._api.refuse(_http_request(request), ServingError(Code.UNAVAILABLE, STOPPING), close=True)
            )
        self._in_progress += 1
        try:
            return _web_response(await self._answer(request))
        finally:
            self._in_progress -= 1
            if self._stopping and not self._in_progress:
                self._idle.set()

    async def _answer(self, request: web.BaseRequest) -> HttpResponse:
        chunks: list[bytes] = []
        try:
            await self._read(request, chunks)
            return await self._workers.run(functools.partial(self._run, request, chunks))
        except _TooLargeError as error:
            return dataclasses.replace(self._api.refuse(_http_request(request), error, close=True), status=413)
        except ServingError as error:  # close the connection unless the whole body was read
            return self._api.refuse(_http_request(request), error, close=not request.content.at_eof())
        except TimeoutError:
            return HttpResponse(408, {"Content-Type": "text/plain"}, b"", close=True)
        finally:
            self._waiting_bytes -= sum(map(len, chunks))

    async def _read(self, request: web.BaseRequest, chunks: list[bytes]) -> None:
        """Receive the body into `chunks`; its bytes count as waiting until the request is answered."""
        _check_size(request.content_length or 0)
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the interim response does not count as part of the response
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
                    f"The bodies of the waiting requests exceed {MAX_WAITING_BYTES} bytes. Try again later.",
                )

    def _run(self, request: web.BaseRequest, chunks: Sequence[bytes]) -> HttpResponse:
        body = b"".join(chunks)
        if "gzip" in request.headers.get("Content-Encoding", ""):
            body = decompress(body)
        return self._api.answer(_http_request(request, body))


def _http_request(request: web.BaseRequest, body: bytes = b"") -> HttpRequest:
    return HttpRequest(request.method, request.raw_path, body, request.headers.get("Origin", ""))


def _check_size(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise _TooLargeError(Code.RESOURCE_EXHAUSTED, f"The body is larger than {MAX_BODY_BYTES} bytes.")


def decompress(body: bytes) -> bytes:
    """Decompress a gzip body; return an empty one if it is broken or too large, which is then refused as JSON."""
    stream = zlib.decompressobj(_GZIP)
    try:
        plain = stream.decompress(body, MAX_BODY_BYTES)
    except zlib.error:
        return b""
    return plain if stream.eof else b""


def _web_response(response: HttpResponse) -> web.Response:
    sent = web.Response(status=response.status, headers=response.headers, body=response.body)
    if response.close:
        sent.force_close()
    return sent
