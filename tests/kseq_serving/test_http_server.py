"""Overload, disconnecting clients and shutdown of the HTTP server, with a fake API that holds responses back."""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kseq_serving.core import ServerCore
from kseq_serving.flags import Flags
from kseq_serving.protocol.protos import ConfigProto
from kseq_serving.rest import http_connections, http_server
from kseq_serving.rest.api import HttpRequest, HttpResponse, RestApi
from kseq_serving.rest.http_server import HttpServer
from kseq_serving.workers import Workers
from tests.kseq_serving.conftest import Run
from tests.kseq_serving.ports import free_port

PATH = "/v1/models/m:predict"


class HeldApi(RestApi):
    """Fake API that returns the body of a request when the test allows it."""

    def __init__(self, core: ServerCore):
        super().__init__(core)
        self.begun, self.gate = threading.Event(), threading.Event()
        self.bodies: list[bytes] = []

    def parse_ahead(self, request: HttpRequest, process: object, parsing: object) -> HttpRequest:
        return request

    def answer(self, request: HttpRequest) -> HttpResponse:
        self.bodies.append(request.body)
        self.begun.set()
        assert self.gate.wait(10)
        return HttpResponse(200, {}, request.body)


class Running:
    """HTTP server with one thread, where one or two requests may wait."""

    def __init__(self, run: Run, max_waiting: int):
        self._run = run
        self.core = ServerCore(Flags(), ConfigProto())
        self.api = HeldApi(self.core)
        self.workers = Workers(1, name="rest", max_waiting=max_waiting)
        self.port = free_port()
        self._server = run(self._start())

    async def _start(self) -> HttpServer:
        server = HttpServer(self.api, self.workers, grace_s=10.0)
        await server.start(self.port)
        return server

    def stop(self) -> None:
        self._run(self._server.stop())

    def connection(self) -> contextlib.closing[http.client.HTTPConnection]:
        return contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10))

    def post(self, body: bytes) -> tuple[int, bytes]:
        with self.connection() as connection:
            return post(connection, body)

    def wait_in_flight(self, count: int) -> None:
        deadline = time.monotonic() + 10
        while self.workers.in_flight != count:
            assert time.monotonic() < deadline, self.workers.in_flight
            time.sleep(0.005)


Serve = Callable[..., Running]


@pytest.fixture
def serve(run: Run) -> Iterator[Serve]:
    started: list[Running] = []

    def start(max_waiting: int = 1) -> Running:
        started.append(Running(run, max_waiting))
        return started[-1]

    yield start
    for server in started:
        server.api.gate.set()
        server.stop()
        server.core.stop(0.0)


def post(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
    connection.request("POST", PATH, body)
    response = connection.getresponse()
    return response.status, response.read()


def test_too_many_at_once_are_refused_and_the_server_recovers(serve: Serve):
    server = serve(max_waiting=1)
    with ThreadPoolExecutor(2) as pool, server.connection() as busy:
        held = [pool.submit(server.post, body) for body in (b"a", b"b")]
        server.wait_in_flight(2)
        text = b'{\n    "error": "1 requests wait already for 1 threads. Try again later."\n}'
        assert post(busy, b"c") == (429, text)
        server.api.gate.set()
        assert sorted(call.result() for call in held) == [(200, b"a"), (200, b"b")]
        assert post(busy, b"d") == (200, b"d")  # over the same connection
    metrics = server.core.metrics.render().decode()
    assert ':tensorflow:serving:request_count{model_name="m",status="RESOURCE_EXHAUSTED"} 1\n' in metrics


def test_bodies_that_wait_have_a_limit_together_and_the_server_recovers(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_server, "MAX_WAITING_BYTES", 1500)
    server = serve(max_waiting=5)
    body = b"a" * 1000
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(server.post, body)
        server.wait_in_flight(1)
        text = b'{\n    "error": "The bodies of the waiting requests exceed 1500 bytes. Try again later."\n}'
        assert server.post(body) == (429, text)
        assert server.workers.in_flight == 1
        server.api.gate.set()
        assert held.result() == (200, body)
    assert server.post(body) == (200, body)
    assert server.post(b"b" * 1501)[0] == 429


@pytest.mark.long
def test_the_call_of_a_client_that_goes_away_leaves_the_queue(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_connections, "HALF_CLOSED_S", 0.05)
    server = serve(max_waiting=1)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(server.post, b"a")
        assert server.api.begun.wait(10)
        for _ in range(3):
            with server.connection() as gone:
                gone.request("POST", PATH, b"gone")
                server.wait_in_flight(2)
            server.wait_in_flight(1)
        server.api.gate.set()
        assert held.result() == (200, b"a")
    assert server.post(b"b") == (200, b"b")
    assert server.api.bodies == [b"a", b"b"]


def test_stopping_answers_what_is_in_progress_and_refuses_the_rest(serve: Serve):
    server = serve()
    with ThreadPoolExecutor(2) as pool, server.connection() as open_before:
        open_before.connect()
        in_progress = pool.submit(server.post, b"a")
        assert server.api.begun.wait(10)
        stopping = pool.submit(server.stop)
        time.sleep(0.2)
        assert post(open_before, b"b") == (503, b'{\n    "error": "The server is stopping."\n}')
        server.api.gate.set()
        assert in_progress.result() == (200, b"a")
        stopping.result(10)
    with pytest.raises(ConnectionRefusedError):
        server.post(b"c")


def test_a_call_that_does_not_end_is_given_up(run: Run):
    server = Running(run, 1)
    server._server._grace_s = 0.1
    with ThreadPoolExecutor(1) as pool:
        endless: Any = pool.submit(server.post, b"a")
        assert server.api.begun.wait(10)
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 5.0
        assert isinstance(endless.exception(), http.client.RemoteDisconnected)
        server.api.gate.set()
    server.core.stop(0.0)


def test_a_client_that_sends_nothing_more_gets_its_answer(serve: Serve):
    server = serve()
    server.api.gate.set()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(head + b"a")
        client.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := client.recv(4096):
            received += chunk
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"\r\n\r\na")


@pytest.mark.parametrize("rest", [b"x\r\n", b"5\r\nabcdefg\r\n", b"-1\r\n"])
def test_a_malformed_chunk_in_a_later_packet_is_answered_at_once(serve: Serve, rest: bytes):
    server = serve()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", server.port), 5) as client:
        client.sendall(head + b"1\r\na\r\n")
        time.sleep(0.05)
        client.sendall(rest)
        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert server.api.bodies == []


def test_a_large_answer_to_a_slow_client_is_sent_whole_when_the_server_stops(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http_server, "SEND_TIMEOUT_S", 0.05)
    server = serve()
    server.api.gate.set()
    body = b"a" * 30_000_000
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with ThreadPoolExecutor(1) as pool, socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(head + body)
        received = len(client.recv(4096))
        stopping = pool.submit(server.stop)
        time.sleep(0.2)  # more than the server waits for idle connections
        while chunk := client.recv(1 << 20):
            received += len(chunk)
        stopping.result(10)
    assert received > len(body)


def test_of_many_idle_connections_the_oldest_are_closed_and_busy_ones_stay(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(http_server, "max_connections", lambda: 5)
    server = serve()
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        held = pool.submit(server.post, b"a")
        assert server.api.begun.wait(10)
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5)) for _ in range(12)]
        assert [connection.recv(1) for connection in idle[:7]] == [b""] * 7
        server.api.gate.set()
        assert held.result() == (200, b"a")
        assert server.post(b"victim") == (200, b"victim")
