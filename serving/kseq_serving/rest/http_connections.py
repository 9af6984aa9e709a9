"""Connections that aiohttp serves: those on which a client has sent anything else than plain requests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError, InvalidURLError

from kseq_serving.rest.api import HttpResponse, html_response
from kseq_serving.rest.plain_server import Given
from kseq_serving.rest.unsent_answers import UnsentAnswers

HALF_CLOSED_S = 1.0  # longest time to answer a client that sends nothing more, and may have gone

_AT_ONCE = struct.pack("ii", 1, 0)  # else the system keeps what it has not sent, for minutes
# A request line in the parser's error text, whose method the parser does not know.
_REQUEST_LINE = re.compile(r"[^\s']+ \S+ HTTP/\d")


class _DropMalformed(logging.Filter):
    """Filter that drops aiohttp's log records of malformed HTTP, with which a client could fill the disk."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_log = logging.getLogger(__name__)
_log.addFilter(_DropMalformed())


class HttpConnection(web.RequestHandler):
    """Connection that answers unknown methods and malformed request targets as TensorFlow Serving does.

    A malformed body ends its request at once, and a client may close its direction after its last request.

    Attributes:
        ended: Function to call when the response of the request in progress is sent.
        ready: Response to the next request, if it is known.
        since: Time since which the connection waits for its client: to send a request, or to receive the response.
        is_answering: Whether the client waits, for the response to a whole request.
        wire: Transport, until the connection is lost.
    """

    ended: Callable[[], None] | None = None
    ready: HttpResponse | None = None
    is_answering = False
    wire: asyncio.Transport | None = None

    def __init__(self, server: HttpConnections, given: Given, **options: Any):
        super().__init__(server, **options)
        self._given: Given | None = given
        self._unsent = server.unsent
        self.since = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what was left to send before the connection came here."""
        super().connection_made(transport)
        self.wire = cast(asyncio.Transport, transport)
        self.wire.set_write_buffer_limits(0)  # so that `finish_response` returns when all is sent
        if self._given:
            self.wire.write(self._given.unsent)
        # Not now: the loop starts to read after this call, even if so much was received that reading must pause.
        asyncio.get_running_loop().call_soon(self._receive_given)

    def _receive_given(self) -> None:
        """Receive what the client sent before the connection came here."""
        given, self._given = self._given, None
        if given:
            self.ready = given.response
            if given.received:
                self.data_received(given.received)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End what waits for the client."""
        self.wire = self._given = None
        self._unsent.unwatch(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Watch a client that does not receive all at once."""
        super().pause_writing()
        self._unsent.watch(self)

    def resume_writing(self) -> None:
        """Go on when all is sent."""
        super().resume_writing()
        self._unsent.unwatch(self)

    def data_received(self, data: bytes) -> None:
        """Receive bytes; an error in a body wakes the request that reads it, which would wait for the rest."""
        self._receive_given()
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
        self._receive_given()
        current = self._current_request
        bodies = [*([current.content] if current else ()), *(body for _, body in self._messages)]
        if self.is_idle or (bodies and not bodies[-1].is_eof()):
            return False
        asyncio.get_running_loop().call_later(HALF_CLOSED_S, self.force_close)
        if not self._messages:
            self.close()  # behind the answer to the request in progress
        return True

    def abort(self) -> None:
        """End the connection at once; what is not sent is lost."""
        if self.wire is None:
            return
        if self.wire.get_write_buffer_size():
            fd = self.wire.get_extra_info("socket").fileno()
            with contextlib.suppress(OSError), socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.wire.abort()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; the request is in progress until then."""
        self.is_answering = False
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self.since = time.monotonic()
            if isinstance(resp, web.Response):
                resp.body = None  # the library keeps the response until the next one
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
        """Return the response to a request that is no HTTP."""
        if isinstance(exc, BadHttpMethod) and _REQUEST_LINE.search(exc.message):
            return web_response(html_response(501, "Not Implemented"))
        if isinstance(exc, InvalidURLError) and "\\x" in exc.message:  # a byte that is no character of a URL
            return web_response(html_response(400, "Bad Request"))
        if isinstance(exc, InvalidURLError):
            return web_response(html_response(404, "Not Found"))
        return super().handle_error(request, status, exc, message)


class HttpConnections(web.Server):
    """Open connections of class `HttpConnection`.

    Args:
        handler: Function that answers a request.
        unsent: Answers that clients have not received yet.
        idle_s: Longest time that a connection may take to send the head of a request, in seconds.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        unsent: UnsentAnswers,
        *,
        idle_s: float,
    ):
        # If a client disconnects, its request leaves the queue.
        super().__init__(handler, handler_cancellation=True)
        self.unsent = unsent
        self._idle_s = idle_s

    async def adopt(self, accepted: socket.socket, given: Given) -> None:
        """Serve an accepted connection."""
        loop = asyncio.get_running_loop()

        def connection() -> HttpConnection:
            return HttpConnection(
                self,
                given,
                loop=loop,
                auto_decompress=False,
                access_log=None,
                logger=_log,
                keepalive_timeout=self._idle_s,
            )

        with contextlib.suppress(OSError):  # it broke meanwhile
            await loop.connect_accepted_socket(connection, accepted)

    @property
    def count(self) -> int:
        """Number of connections, with those that are being closed."""
        return len(self._connections)

    def open(self) -> list[HttpConnection]:
        """Return the connections that are not being closed."""
        every = cast("list[HttpConnection]", self.connections)
        return [one for one in every if one.wire and not one.wire.is_closing()]


def web_response(response: HttpResponse) -> web.Response:
    """Return a response as aiohttp's."""
    sent = web.Response(status=response.status, headers=response.headers, body=response.body)
    if response.close:
        sent.force_close()
    return sent
