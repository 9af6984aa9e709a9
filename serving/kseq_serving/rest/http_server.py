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
import re
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError, InvalidURLError

from kseq_serving import compression
from kseq_serving.budget import Budget, Share
from kseq_serving.errors import Code, ServingError
from kseq_serving.ports import REST_HOST
from kseq_serving.rest.api import HttpRequest, HttpResponse, RestApi, html_response
from kseq_serving.rest.json_processes import HUGE_BYTES, LARGE_BYTES, JsonProcess, Parsing
from kseq_serving.rest.plain_connections import Connections
from kseq_serving.rest.plain_server import Given, PlainServer
from kseq_serving.workers import Workers

MAX_BODY_BYTES = 512 * 2**20
# Of all bodies that are being received or whose requests are not answered yet; of a gzip body, compressed and plain.
MAX_WAITING_BYTES = 2 * MAX_BODY_BYTES
MAX_WAITING_LARGE = 512  # large bodies of each kind that wait to be parsed
MAX_CONNECTIONS = 4096  # above which idle ones are closed
BODY_TIMEOUT_S = 30.0  # longest time between two pieces of a body
HALF_CLOSED_S = 1.0  # longest time to answer a client that sends nothing more, and may have gone
IDLE_TIMEOUT_S = 75.0  # longest time that a connection may take to send the head of a request
SEND_TIMEOUT_S = 1.0  # longest time to send finished responses when the server stops
BACKLOG = 1024
_QUIET_S = 0.01
STOPPING = "The server is stopping."


# A request line in the parser's error text, whose method the parser does not know.
_REQUEST_LINE = re.compile(r"[^\s']+ \S+ HTTP/\d")


class _DropMalformed(logging.Filter):
    """Filter that drops aiohttp's log records of malformed HTTP, with which a client could fill the disk."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_log = logging.getLogger(__name__)
_log.addFilter(_DropMalformed())


class _Connection(web.RequestHandler):
    """Connection that answers unknown methods and malformed request targets as TensorFlow Serving does.

    A malformed body ends its request at once, and a client may close its direction after its last request.

    Attributes:
        ended: Function to call when the response of the request in progress is sent.
        ready: Response to the next request, if it is known.
        since: Time at which the connection began to wait.
    """

    ended: Callable[[], None] | None = None
    ready: HttpResponse | None = None

    def __init__(self, server: web.Server, given: Given, **options: Any):
        super().__init__(server, **options)
        self._given = given
        self.since = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Receive what the connection sent before it came here."""
        super().connection_made(transport)
        cast(asyncio.Transport, transport).write(self._given.unsent)
        self.ready = self._given.response
        if self._given.received:
            self.data_received(self._given.received)

    def data_received(self, data: bytes) -> None:
        """Receive bytes; an error in a body wakes the request that reads it, which would wait for the rest."""
        count = self._request_count
        super().data_received(data)
        request = self._current_request
        if self._request_count == count or request is None or request.content.is_eof():
            return
        # The library puts an error behind the request in progress. A whole request behind it cannot be there, since the
        # body is not complete.
        request.content.set_exception(web.RequestPayloadError("The body is malformed."))

    @property
    def is_idle(self) -> bool:
        """Whether the connection waits for a whole head of a request."""
        return (self._waiter is not None or not self._request_count) and not self._messages

    def eof_received(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]  # the library returns None
        """Return whether the connection stays open for an answer, although the client has ended its direction.

        Clients that have gone cannot be told from those that still wait, so the answer must come soon.
        """
        current = self._current_request
        bodies = [*([current.content] if current else ()), *(body for _, body in self._messages)]
        if self.is_idle or (bodies and not bodies[-1].is_eof()):
            return False
        asyncio.get_running_loop().call_later(HALF_CLOSED_S, self.force_close)
        if not self._messages:
            self.close()  # behind the answer to the request in progress
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; the request is in progress until then."""
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self.since = time.monotonic()
            ended, self.ended = self.ended, None
            if ended:
                ended()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, BadHttpMethod) and _REQUEST_LINE.search(exc.message):
            return _web_response(html_response(501, "Not Implemented"))
        if isinstance(exc, InvalidURLError) and "\\x" in exc.message:  # a byte that is no character of a URL
            return _web_response(html_response(400, "Bad Request"))
        if isinstance(exc, InvalidURLError):
            return _web_response(html_response(404, "Not Found"))
        return super().handle_error(request, status, exc, message)


class _Server(web.Server):
    """Server of aiohttp that makes connections of class `_Connection`, with `options`."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **options: Any):
        # If a client disconnects, its request leaves the queue.
        super().__init__(handler, handler_cancellation=True)
        self._options = options

    async def adopt(self, accepted: socket.socket, given: Given) -> None:
        """Serve an accepted connection."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # it broke meanwhile
            await loop.connect_accepted_socket(lambda: _Connection(self, given, loop=loop, **self._options), accepted)

    def oldest(self) -> _Connection | None:
        """Return the connection that waits longest for a request."""
        opened = (cast(_Connection, other) for other in self.connections if other.transport is not None)
        idle = (connection for connection in opened if connection.is_idle)
        return min(idle, key=lambda connection: connection.since, default=None)


class _TooLargeError(ServingError):
    """Error for a body that exceeds the limit."""


class HttpServer:
    """HTTP server of the REST API on one port.

    Args:
        api: REST API that answers the requests.
        workers: Threads that run it.
        grace_s: Time for requests in progress when the server stops, in seconds.
        at_once: Whether quick requests are answered by the thread that receives them.
    """

    def __init__(self, api: RestApi, workers: Workers, *, grace_s: float, at_once: bool = True):
        self._api = api
        self._workers = workers
        self._grace_s = grace_s
        self._at_once = at_once
        self._runner: web.ServerRunner | None = None
        self._plain: PlainServer | None = None
        self._adopting: set[socket.socket] = set()
        self._in_progress = 0
        self._large, self._huge = _Lane("json"), _Lane("huge-json")
        self._bodies = Budget(MAX_WAITING_BYTES, "The bodies of the waiting requests")
        self._connections = Connections(self._bodies)
        self._stopping = False

    async def start(self, port: int, *, is_shared: bool = False) -> None:
        """Start to listen, at a port that other processes may share.

        Raises:
            OSError: If the port cannot be used.
        """
        # With reuse_port, any second server could listen on the same port and would get part of the connections.
        listener = socket.create_server((REST_HOST, port), backlog=BACKLOG, reuse_port=is_shared)
        server = _Server(
            self._handle, auto_decompress=False, access_log=None, logger=_log, keepalive_timeout=IDLE_TIMEOUT_S
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=SEND_TIMEOUT_S)
        await self._runner.setup()
        loop, connections = asyncio.get_running_loop(), self._connections

        def give_away(accepted: socket.socket, given: Given) -> None:
            self._adopting.add(accepted)
            try:
                asyncio.run_coroutine_threadsafe(server.adopt(accepted, given), loop).add_done_callback(
                    lambda _adopted: self._adopting.discard(accepted)
                )
            except RuntimeError:  # the loop was closed meanwhile
                accepted.close()

        def make_room() -> None:
            if len(connections) + len(server.connections) > MAX_CONNECTIONS:
                loop.call_soon_threadsafe(_end_oldest, connections, server)

        self._plain = PlainServer(
            listener,
            self._api,
            self._workers,
            connections,
            give_away=give_away,
            make_room=make_room,
            at_once=self._at_once,
            half_closed_s=HALF_CLOSED_S,
            idle_s=IDLE_TIMEOUT_S,
        )
        self._plain.start()

    async def stop(self) -> None:
        """Close the port, and then the connections when their requests are answered or `grace_s` is over.

        New requests on open connections are answered with UNAVAILABLE meanwhile.
        """
        if self._runner is None or self._plain is None:
            return
        self._stopping = True
        self._plain.stop_accepting()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._grace_s):
                await self._until_quiet()
        self._plain.close()
        await self._runner.cleanup()
        self._workers.stop()
        for lane in (self._large, self._huge):
            lane.stop()

    async def _until_quiet(self) -> None:
        """Wait until no request is in progress, nor between the two servers."""
        quiet = 0
        while quiet < 2:
            await asyncio.sleep(_QUIET_S)
            quiet = 0 if self._in_progress or self._connections.in_progress or self._adopting else quiet + 1

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(_Connection, request.protocol)
        ready, connection.ready = connection.ready, None
        if self._stopping and not ready:
            return _web_response(
                self._api.refuse(_http_request(request), ServingError(Code.UNAVAILABLE, STOPPING), close=True)
            )
        self._in_progress += 1
        try:
            response = _web_response(ready or await self._answer(request))
        except BaseException:
            self._ended()
            raise
        connection.ended = self._ended
        return response

    def _ended(self) -> None:
        self._in_progress -= 1

    async def _answer(self, request: web.BaseRequest) -> HttpResponse:
        share = Share(self._bodies)
        try:
            received = _http_request(request, await self._read(request, share))
            if len(received.body) > LARGE_BYTES or _is_gzip(request):
                received = await self._parse_ahead(request, received, share)
            return await self._workers.run(functools.partial(self._api.answer, received), client=request.protocol)
        except _TooLargeError as error:
            return dataclasses.replace(self._api.refuse(_http_request(request), error, close=True), status=413)
        except ServingError as error:  # close the connection unless the whole body was read
            return self._api.refuse(_http_request(request), error, close=not request.content.at_eof())
        except TimeoutError:
            return HttpResponse(408, {"Content-Type": "text/plain"}, b"", close=True)
        except web.RequestPayloadError:
            return HttpResponse(400, {"Content-Type": "text/plain"}, b"", close=True)
        finally:
            share.release()

    async def _read(self, request: web.BaseRequest, share: Share) -> bytes:
        """Receive the body; its bytes count as waiting until the request is answered."""
        _check_size(request.content_length or 0)
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the interim response does not count as part of the response
        body = bytearray()
        while not request.content.at_eof():
            async with asyncio.timeout(BODY_TIMEOUT_S):
                chunk = await request.content.readany()
            _check_size(len(body) + len(chunk))
            share.take(len(chunk))
            body += chunk
        return bytes(body)

    async def _parse_ahead(self, request: web.BaseRequest, received: HttpRequest, share: Share) -> HttpRequest:
        """Decompress a body, and parse it where it holds up nobody if it is large."""
        lane = self._huge if len(received.body) > HUGE_BYTES or _is_gzip(request) else self._large
        parsing = Parsing()

        def work() -> HttpRequest:
            plain = received
            if _is_gzip(request):
                plain = dataclasses.replace(received, body=decompress(received.body, share.take))
            return self._api.parse_ahead(plain, lane.process, parsing) if len(plain.body) > LARGE_BYTES else plain

        try:
            return await lane.workers.run(work, client=request.protocol)
        except asyncio.CancelledError:  # the client has gone
            parsing.cancel()
            raise


class _Lane:
    """Thread and process that parse large bodies, one at a time."""

    def __init__(self, name: str):
        self.workers = Workers(1, name=name, max_waiting=MAX_WAITING_LARGE)
        self.process = JsonProcess()

    def stop(self) -> None:
        self.workers.stop()
        self.process.stop()


def _end_oldest(plain: Connections, server: _Server) -> None:
    """End the connection that waits longest for a request."""
    plain_since, oldest = plain.waiting_since(), server.oldest()
    if oldest and (plain_since is None or oldest.since < plain_since):
        oldest.force_close()
    else:
        plain.end_oldest()


def _http_request(request: web.BaseRequest, body: bytes = b"") -> HttpRequest:
    return HttpRequest(
        request.method,
        request.raw_path,
        body,
        request.headers.get("Origin", ""),
        request.headers.getall("Host", ()),
    )


def _is_gzip(request: web.BaseRequest) -> bool:
    return "gzip" in request.headers.get("Content-Encoding", "")


def _check_size(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise _TooLargeError(Code.RESOURCE_EXHAUSTED, f"The body is larger than {MAX_BODY_BYTES} bytes.")


def decompress(body: bytes, take: Callable[[int], None]) -> bytes:
    """Decompress a gzip body; return an empty one if it is broken, which is then refused as JSON.

    Args:
        body: Compressed body.
        take: Function that is called with the size of each piece; it raises an error to refuse the body.

    Raises:
        ServingError: If the body is larger than `MAX_BODY_BYTES` when decompressed, or `take` refuses a piece.
    """
    size = 0

    def take_within_limit(piece: int) -> None:
        nonlocal size
        size += piece
        _check_size(size)
        take(piece)

    return compression.gunzip(body, take_within_limit) or b""


def _web_response(response: HttpResponse) -> web.Response:
    sent = web.Response(status=response.status, headers=response.headers, body=response.body)
    if response.close:
        sent.force_close()
    return sent
