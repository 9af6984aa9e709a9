"""Connections that send too much at once, or keep the server waiting in too large a number."""

import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kseq_serving.rest import http_server
from kseq_serving.rest.http_connections import HttpConnection
from tests.kseq_serving.clients import wait_for
from tests.kseq_serving.conftest import Run
from tests.kseq_serving.test_plain_server import ODD, Client, Running, request

pytestmark = pytest.mark.server
MIB = 2**20
MOST = 6


@pytest.fixture
def server(uvloop_run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """Server that allows `MOST` connections."""
    monkeypatch.setattr(http_server, "max_connections", lambda: MOST)
    server = Running(uvloop_run)
    yield server
    server.stop()


def test_a_client_that_sends_without_end_from_its_first_packet_is_read_no_further(
    server: Running, monkeypatch: pytest.MonkeyPatch
):
    received = 0
    receive = HttpConnection.data_received

    def count(connection: HttpConnection, data: bytes) -> None:
        nonlocal received
        received += len(data)
        receive(connection, data)

    monkeypatch.setattr(HttpConnection, "data_received", count)
    hang = request(b"hang", **ODD)
    pipelined = b"".join(request(b"%6d" % index + bytes(1000), **ODD) for index in range(8000))
    with contextlib.closing(Client(server.port)) as flood, server.connect() as victim, server.connect() as plain:
        flood.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        flood.socket.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            flood.socket.sendall(hang + pipelined[:60_000])
            sent = 60_000
            while sent < len(pipelined):
                sent += flood.socket.send(pipelined[sent : sent + 65536])
        assert received < 2 * MIB
        assert victim.ask(b"victim", **ODD).endswith(b"victim")
        assert plain.ask(b"victim").endswith(b"victim")
        server.api.gate.set()
        flood.socket.settimeout(10)
        size = len(pipelined) // 8000
        whole = -(-sent // size)
        sender = threading.Thread(target=flood.socket.sendall, args=(pipelined[sent : whole * size],))
        sender.start()
        assert flood.answer().endswith(b"hang")
        assert [flood.answer()[-1006:-1000] for _ in range(whole)] == [b"%6d" % index for index in range(whole)]
        sender.join()


def in_a_body(server: Running) -> Client:
    """Begin a body that aiohttp receives."""
    client = Client(server.port)
    client.socket.sendall(request(b"a" * 1000, **ODD)[:-1])
    return client


def in_a_plain_body(server: Running) -> Client:
    client = Client(server.port)
    client.socket.sendall(request(b"a" * 1000)[:-1])
    return client


def in_a_refused_body(server: Running) -> Client:
    """Begin a body that was refused because of its size; the rest is received for a while."""
    client = Client(server.port)
    client.socket.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n")
    assert client.answer().startswith(b"HTTP/1.1 413 ")
    return client


def in_an_answer(server: Running) -> Client:
    server.api.size = 16 * MIB
    client = Client(server.port)
    client.socket.sendall(request(b"a", **ODD))
    assert client.socket.recv(1)
    server.api.size = 0
    return client


ATTACKS = [in_a_body, in_a_plain_body, in_a_refused_body, in_an_answer]


def open_connections(server: Running) -> int:
    return server.server._connections.kept + len(server.server._runner.server.open())


@pytest.mark.parametrize("attack", ATTACKS)
def test_connections_that_wait_for_their_clients_end_before_younger_idle_ones(
    server: Running, attack: Callable[[Running], Client]
):
    with contextlib.ExitStack() as stack:
        for _ in range(MOST - 1):
            stack.enter_context(contextlib.closing(attack(server)))
        wait_for(lambda: open_connections(server) == MOST - 1 and not server.server._adopting)
        time.sleep(0.1)  # until all wait
        idle = stack.enter_context(server.connect())
        assert idle.ask(b"idle").endswith(b"idle")
        victims = [stack.enter_context(server.connect()) for _ in range(3)]
        assert [victim.ask(b"victim")[-6:] for victim in victims] == [b"victim"] * 3
        wait_for(lambda: open_connections(server) == MOST)
        assert [client.ask(b"again")[-5:] for client in (idle, *victims)] == [b"again"] * 4


@pytest.mark.parametrize("attack", ATTACKS)
def test_many_connections_that_wait_for_their_clients_are_no_more_than_allowed(
    server: Running, attack: Callable[[Running], Client]
):
    with contextlib.ExitStack() as stack:
        for _ in range(4 * MOST):
            stack.enter_context(contextlib.closing(attack(server)))
        wait_for(lambda: open_connections(server) <= MOST and not server.server._adopting)
        victim = stack.enter_context(server.connect())
        assert victim.ask(b"victim").endswith(b"victim")
        wait_for(lambda: open_connections(server) <= MOST)
        assert victim.ask(b"victim").endswith(b"victim")


def test_a_request_that_is_being_answered_stays(server: Running):
    with contextlib.ExitStack() as stack:
        hanging = stack.enter_context(server.connect())
        hanging.socket.sendall(request(b"hang", **ODD))
        assert server.api.hangs.wait(10)
        for _ in range(2 * MOST):
            stack.enter_context(contextlib.closing(in_a_body(server)))
        wait_for(lambda: open_connections(server) <= MOST)
        server.api.gate.set()
        assert hanging.answer().endswith(b"hang")


class FullListener:
    """Listener that cannot accept once, since too many files are open."""

    def __init__(self, listener: socket.socket):
        self._listener, self.is_full = listener, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def accept(self) -> Any:
        if self.is_full:
            self.is_full = False
            raise OSError(errno.EMFILE, "")
        return self._listener.accept()


def test_too_many_open_files_end_a_connection_in_a_body(server: Running):
    with contextlib.closing(in_a_body(server)) as attacker:
        wait_for(lambda: server.server._runner.server.count == 1 and not server.server._adopting)
        plain = server.server._plain
        plain._listener = FullListener(plain._listener)
        with server.connect() as victim:
            assert victim.ask(b"victim").endswith(b"victim")
        assert attacker.socket.recv(1) == b""


def test_a_long_body_that_comes_fast_enough_does_not_wait(server: Running):
    with contextlib.closing(Client(server.port)) as fast:
        size = 8 * MIB
        fast.socket.sendall(request(bytes(size), **ODD)[: -7 * MIB])
        wait_for(lambda: server.server._runner.server.count == 1)
        with contextlib.closing(in_a_body(server)):
            wait_for(lambda: server.server._runner.server.count == 2)
            time.sleep(0.3)
            fast.socket.sendall(bytes(6 * MIB))
            first, second = server.server._runner.server.open()
            wait_for(lambda: first.since > second.since + 0.2)
            fast.socket.sendall(bytes(MIB))
            assert fast.answer().startswith(b"HTTP/1.1 200 ")
