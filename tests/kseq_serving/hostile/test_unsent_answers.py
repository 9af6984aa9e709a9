"""Answers that clients do not receive."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from kseq_serving.rest import unsent_answers
from tests.kseq_serving.clients import wait_for
from tests.kseq_serving.conftest import Run
from tests.kseq_serving.test_plain_server import ODD, Client, Running, request

pytestmark = pytest.mark.server
MIB = 2**20
SIZE = 8 * MIB  # more than the system takes at once
FORM = pytest.mark.parametrize("headers", [{}, ODD], ids=["plain", "through aiohttp"])


@pytest.fixture
def server(uvloop_run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """Server with answers of `SIZE` bytes, of which four may be unsent."""
    monkeypatch.setattr(unsent_answers, "MAX_UNSENT_BYTES", 4 * SIZE)
    monkeypatch.setattr(unsent_answers, "_LOOK_S", 0.05)
    server = Running(uvloop_run)
    server.api.size = SIZE
    yield server
    server.stop()


@contextlib.contextmanager
def deaf_client(server: Running, **headers: str) -> Iterator[Client]:
    """Client that receives nothing of its answer, which is being sent."""
    before = server.server._unsent.used
    with contextlib.closing(Client(server.port)) as client:
        client.socket.sendall(request(b"a", **headers))
        wait_for(lambda: server.server._unsent.used == before + SIZE)
        yield client


@FORM
def test_too_many_bytes_end_the_client_that_has_received_nothing_for_longest(
    server: Running, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
):
    monkeypatch.setattr(unsent_answers, "SLOW_S", 0.2)
    with contextlib.ExitStack() as stack:
        deaf = [stack.enter_context(deaf_client(server, **headers)) for _ in range(4)]
        time.sleep(0.4)
        with server.connect() as victim:
            answer = victim.ask(b"victim", **headers)
        assert answer.rpartition(b"\r\n\r\n")[2] == b"victim".ljust(SIZE, b".")
        wait_for(lambda: server.server._unsent.used == 3 * SIZE)
        with pytest.raises(ConnectionResetError):
            deaf[0].answer()
        assert deaf[1].answer().endswith(b"...")  # it has lost nothing
    wait_for(lambda: server.server._unsent.used == 0)


def test_clients_that_are_not_slow_keep_their_answers(server: Running):
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(deaf_client(server)) for _ in range(4)]
        with server.connect() as late:
            refused = late.ask(b"late")
            assert refused.startswith(b"HTTP/1.1 429 ")
            assert b"The answers that clients have not received yet exceed 33554432 bytes. Try again later." in refused
            server.api.size = 0
            assert late.ask(b"small answers do not count").endswith(b"small answers do not count")
        assert [other.answer().endswith(b"...") for other in others] == [True] * 4


@FORM
def test_a_client_that_receives_nothing_is_given_up_and_a_slow_one_is_not(
    server: Running, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
):
    monkeypatch.setattr(unsent_answers, "STALLED_S", 1.0)
    with deaf_client(server, **headers) as deaf, deaf_client(server, **headers) as slow:
        received = slow.socket.recv(65536)
        while len(received) < SIZE:  # two to three seconds
            received += slow.socket.recv(65536, socket.MSG_WAITALL)
            time.sleep(0.02)
        assert b"\r\n\r\na...." in received
        wait_for(lambda: server.server._unsent.used == 0)
        with pytest.raises(ConnectionResetError):
            deaf.answer()
        server.api.size = 0
        slow._received = b""
        with server.connect() as victim:
            assert victim.ask(b"victim", **headers).endswith(b"victim")


def send_without_end(client: Client) -> None:
    for _ in range(10_000):
        client.socket.sendall(request(b"a"))
        time.sleep(0.001)


def test_small_answers_that_nobody_receives_are_given_up_as_well(server: Running, monkeypatch: pytest.MonkeyPatch):
    """A client that only sends must not keep its connection for ever."""
    monkeypatch.setattr(unsent_answers, "STALLED_S", 0.5)
    server.api.size = 60_000
    with contextlib.closing(Client(server.port)) as deaf, server.connect() as victim:
        with pytest.raises(ConnectionError):
            send_without_end(deaf)
        assert victim.ask(b"victim").startswith(b"HTTP/1.1 200 ")


def test_an_idle_connection_keeps_no_answer(server: Running):
    with server.connect() as client:
        client.ask(b"a")
        (connection,) = server.server._runner.server.open()
        wait_for(lambda: connection.is_idle)
        assert connection._task_handler.get_coro().cr_frame.f_locals["resp"].body is None
