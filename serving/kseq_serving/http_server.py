"""HTTP for the REST API: aiohttp's server on the event loop, the models' work on threads.

It listens on the loopback address alone, as the protocol is plain text and knows no client. What a client could abuse
is bounded: headers by aiohttp, bodies by ``MAX_BODY_BYTES`` also after decompression, waiting by two timeouts.
"""

from __future__ import annotations

import asyncio
import functools
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

from aiohttp import web

from kseq_serving.errors import Code, ServingError
from kseq_serving.json_writer import error_body
from kseq_serving.pace import Pace
from kseq_serving.rest import Answer, Call, RestApi

HOST = "127.0.0.1"
MAX_BODY_BYTES = 512 * 2**20
BODY_TIMEOUT_S = 30.0  # without a byte of a body that was announced
IDLE_TIMEOUT_S = 75.0  # without a whole request head on an open connection

_GZIP = zlib.MAX_WBITS | 16  # zlib's way to ask for gzip's header


class HttpServer:
    """Serves the REST API on one port.

    Args:
        api: answers the calls.
        threads: how many calls are answered at a time.
        grace_s: how long calls in progress may take when the server stops.
        pace: which calls need no thread of their own.
    """

    def __init__(self, api: RestApi, *, threads: int, grace_s: float, pace: Pace):
        self._api = api
        self._pace = pace
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self._grace_s = grace_s
        self._runner: web.ServerRunner | None = None

    async def start(self, port: int) -> None:
        """Starts to listen.

        Raises:
            OSError: the port cannot be had.
        """
        server = web.Server(self._handle, auto_decompress=False, access_log=None, keepalive_timeout=IDLE_TIMEOUT_S)
        self._runner = web.ServerRunner(server, shutdown_timeout=self._grace_s)
        await self._runner.setup()
        # Without reuse_port a second server on the port is an error and not a silent rival.
        await web.TCPSite(self._runner, HOST, port, reuse_port=False).start()

    async def stop(self) -> None:
        """Closes the port, and the connections once their calls have ended or the grace is over."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await _read(request)
        except ServingError as error:
            return _response(Answer(413, {"Content-Type": "application/json"}, error_body(error.message), close=True))
        except TimeoutError:
            return _response(Answer(408, {"Content-Type": "text/plain"}, b"", close=True))
        # What a compressed body holds is not known before it is read.
        if "Content-Encoding" not in request.headers and self._pace.is_quick(request.raw_path, len(body)):
            return _response(self._answer(request, body, on_network=True))
        answer = functools.partial(self._answer, request, body, on_network=False)
        return _response(await asyncio.get_running_loop().run_in_executor(self._threads, answer))

    def _answer(self, request: web.BaseRequest, body: bytes, *, on_network: bool) -> Answer:
        started = time.perf_counter()
        if "gzip" in request.headers.get("Content-Encoding", ""):
            body = decompress(body)
        call = Call(request.method, request.raw_path, body, request.headers.get("Origin", ""))
        answer = self._api.answer(call)
        seconds = time.perf_counter() - started
        self._pace.record(call.path, seconds, on_network=on_network, refused=answer.status != HTTPStatus.OK)
        return answer


async def _read(request: web.BaseRequest) -> bytes:
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the interim answer is no part of the answer
    chunks: list[bytes] = []
    size = 0
    while not request.content.at_eof():
        async with asyncio.timeout(BODY_TIMEOUT_S):
            chunk = await request.content.readany()
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise ServingError(Code.RESOURCE_EXHAUSTED, f"The body is larger than {MAX_BODY_BYTES} bytes.")
    return b"".join(chunks)


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
