"""HTTP server of the REST API: aiohttp on the event loop, while worker threads answer the requests.

It listens on the loopback address alone, since the protocol has neither encryption nor authentication. aiohttp limits
the size of headers. Bodies (also after decompression), unsent answers and connections have limits of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import socket
from typing import cast

from aiohttp import web

from kseq_serving.budget import Budget
from kseq_serving.errors import Code, ServingError
from kseq_serving.ports import REST_HOST, max_connections
from kseq_serving.rest import http_connections
from kseq_serving.rest.api import HttpRequest, HttpResponse, RestApi
from kseq_serving.rest.bodies import Bodies
from kseq_serving.rest.connection_limit import ConnectionLimit
from kseq_serving.rest.http_connections import HttpConnection, HttpConnections, web_response
from kseq_serving.rest.json_lanes import MAX_BODY_BYTES, JsonLanes, TooLargeError
from kseq_serving.rest.plain_connections import Connections
from kseq_serving.rest.plain_server import Given, PlainServer
from kseq_serving.rest.unsent_answers import UnsentAnswers
from kseq_serving.workers import Workers

# Of all bodies that are being received or whose requests are not answered yet; of a gzip body, compressed and plain.
MAX_WAITING_BYTES = 2 * MAX_BODY_BYTES
IDLE_TIMEOUT_S = 75.0  # longest time that a connection may take to send the head of a request
SEND_TIMEOUT_S = 1.0  # longest time to send finished responses when the server stops
BACKLOG = 1024
_QUIET_S = 0.01
STOPPING = "The server is stopping."


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
        self._lanes = JsonLanes(api)
        self._unsent = UnsentAnswers()
        budget = Budget(MAX_WAITING_BYTES, "The bodies of the waiting requests")
        self._bodies = Bodies(budget)
        self._connections = Connections(budget)
        self._stopping = False

    async def start(self, port: int, *, is_shared: bool = False) -> None:
        """Start to listen, at a port that other processes may share.

        Raises:
            OSError: If the port cannot be used.
        """
        # With reuse_port, any second server could listen on the same port and would get part of the connections.
        listener = socket.create_server((REST_HOST, port), backlog=BACKLOG, reuse_port=is_shared)
        server = HttpConnections(self._handle, self._unsent, idle_s=IDLE_TIMEOUT_S)
        self._runner = web.ServerRunner(server, shutdown_timeout=SEND_TIMEOUT_S)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        limit = ConnectionLimit(max_connections(), self._connections, server, self._adopting, loop)

        def give_away(accepted: socket.socket, given: Given) -> None:
            self._adopting.add(accepted)
            try:
                asyncio.run_coroutine_threadsafe(server.adopt(accepted, given), loop).add_done_callback(
                    lambda _adopted: self._adopting.discard(accepted)
                )
            except RuntimeError:  # the loop was closed meanwhile
                accepted.close()

        self._plain = PlainServer(
            listener,
            self._api,
            self._workers,
            self._connections,
            give_away=give_away,
            make_room=limit.make_room,
            at_once=self._at_once,
            half_closed_s=http_connections.HALF_CLOSED_S,
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
        self._lanes.stop()

    async def _until_quiet(self) -> None:
        """Wait until no request is in progress, nor between the two servers."""
        quiet = 0
        while quiet < 2:
            await asyncio.sleep(_QUIET_S)
            quiet = 0 if self._in_progress or self._connections.in_progress or self._adopting else quiet + 1

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(HttpConnection, request.protocol)
        ready, connection.ready = connection.ready, None
        if self._stopping and not ready:
            return web_response(
                self._api.refuse(_http_request(request), ServingError(Code.UNAVAILABLE, STOPPING), close=True)
            )
        self._in_progress += 1
        try:
            response = self._counted(request, ready or await self._answer(request))
        except BaseException:
            self._ended(connection)
            raise
        connection.ended = functools.partial(self._ended, connection)
        return web_response(response)

    def _counted(self, request: web.BaseRequest, response: HttpResponse) -> HttpResponse:
        """Return a response, which counts until it is sent, or an error because too many are being sent."""
        try:
            self._unsent.take(cast(HttpConnection, request.protocol), len(response.body))
        except ServingError as error:
            return self._api.refuse(_http_request(request), error, close=response.close)
        return response

    def _ended(self, connection: HttpConnection) -> None:
        self._unsent.release(connection)
        self._in_progress -= 1

    async def _answer(self, request: web.BaseRequest) -> HttpResponse:
        connection, share = cast(HttpConnection, request.protocol), self._bodies.share()
        try:
            received = _http_request(request, await self._bodies.read(request, share))
            connection.is_answering = True
            received = await self._lanes.read_ahead(
                received,
                is_gzip=_is_gzip(request),
                client=connection,
                take=functools.partial(self._bodies.take, share),
            )
            return await self._workers.run(functools.partial(self._api.answer, received), client=connection)
        except TooLargeError as error:
            return dataclasses.replace(self._api.refuse(_http_request(request), error, close=True), status=413)
        except ServingError as error:  # close the connection unless the whole body was read
            return self._api.refuse(_http_request(request), error, close=not request.content.at_eof())
        except TimeoutError:
            return HttpResponse(408, {"Content-Type": "text/plain"}, b"", close=True)
        except web.RequestPayloadError:
            return HttpResponse(400, {"Content-Type": "text/plain"}, b"", close=True)
        finally:
            share.release()


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
