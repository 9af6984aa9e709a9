"""Bodies that hold many bytes: compressed ones, and those whose ends do not come."""

import contextlib
import gzip
import http.client
import json
import select
import time
from collections.abc import Iterator

import pytest

from kseq_serving.errors import Code, ServingError
from kseq_serving.rest import bodies, http_server, json_lanes
from tests.kseq_serving.clients import wait_for
from tests.kseq_serving.conftest import Run
from tests.kseq_serving.test_http_server import PATH, Running
from tests.kseq_serving.test_plain_server import ODD, Client, request

MIB = 2**20


def test_no_more_is_decompressed_than_may_be_taken():
    taken = []

    def take(size: int) -> None:
        taken.append(size)
        if sum(taken) > 4 * MIB:
            raise ServingError(Code.RESOURCE_EXHAUSTED, "enough")

    with pytest.raises(ServingError, match="enough"):
        json_lanes.decompress(gzip.compress(bytes(64 * MIB), 1), take)
    assert sum(taken) <= 5 * MIB


def test_a_body_is_refused_by_its_size_after_decompression():
    assert len(json_lanes.decompress(gzip.compress(bytes(MIB)), lambda _size: None, MIB)) == MIB
    with pytest.raises(ServingError, match="larger than"):
        json_lanes.decompress(gzip.compress(bytes(MIB + 1)), lambda _size: None, MIB)


@pytest.mark.parametrize("body", [b"", b"plain", gzip.compress(bytes(MIB))[:-9], b"\x1f\x8b" + bytes(100)])
def test_a_broken_body_is_empty(body: bytes):
    assert json_lanes.decompress(body, lambda _size: None) == b""


def test_many_small_pieces_are_decompressed_like_one():
    plain = json.dumps(list(range(200_000))).encode()
    assert json_lanes.decompress(gzip.compress(plain), lambda _size: None) == plain


def test_decompressed_bodies_count_among_those_that_wait(run: Run, monkeypatch: pytest.MonkeyPatch):
    """A few kilobytes must not become a gigabyte, and a victim beside them is answered."""
    monkeypatch.setattr(http_server, "MAX_WAITING_BYTES", 2 * MIB)
    server = Running(run, 5)
    server.api.gate.set()
    try:
        with server.connection() as connection:
            assert post_gzip(connection, bytes(8 * MIB)) == 429
        with server.connection() as connection:
            assert post_gzip(connection, bytes(MIB)) == 200
        assert server.post(b"victim") == (200, b"victim")
        wait_for(lambda: server._server._bodies.share()._budget.used == 0)  # just after the answer
    finally:
        server.stop()
        server.core.stop(0.0)


def post_gzip(connection: http.client.HTTPConnection, plain: bytes) -> int:
    connection.request("POST", PATH, gzip.compress(plain), {"Content-Encoding": "gzip"})
    response = connection.getresponse()
    response.read()
    return response.status


@pytest.fixture
def small(uvloop_run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """Server on which bodies of 100,000 bytes may wait."""
    monkeypatch.setattr(http_server, "MAX_WAITING_BYTES", 100_000)
    server = Running(uvloop_run, 5)
    server.api.gate.set()
    yield server
    server.stop()
    server.core.stop(0.0)


def hold(server: Running, size: int) -> Client:
    """Send all but the last byte of a body, and wait until it has come."""
    before = used(server)
    client = Client(server.port)
    client.socket.sendall(request(b"a" * (size + 1), **ODD)[:-1])
    wait_for(lambda: used(server) == before + size)
    return client


def used(server: Running) -> int:
    return server._server._bodies.share()._budget.used


def test_the_largest_body_that_is_not_whole_makes_room_for_a_victim(small: Running):
    large, less = hold(small, 59_990), hold(small, 40_000)
    assert small.post(b"the victim") == (200, b"the victim")  # the last that fits
    assert small.post(b"another victim") == (200, b"another victim")
    assert large.answer().startswith(b"HTTP/1.1 429 ")
    wait_for(lambda: used(small) == 40_000)
    less.socket.sendall(b"a")
    assert less.answer().startswith(b"HTTP/1.1 200 ")
    large.close()
    less.close()


def test_a_body_makes_no_room_for_a_larger_one(small: Running):
    less = hold(small, 40_000)
    status, text = small.post(b"a" * 90_000)
    assert status == 429
    assert b"The bodies of the waiting requests exceed 100000 bytes. Try again later." in text
    less.socket.sendall(b"a")
    assert less.answer().startswith(b"HTTP/1.1 200 ")
    less.close()


def test_a_body_has_a_lowest_rate(small: Running, monkeypatch: pytest.MonkeyPatch):
    """A client that sends a byte now and then is given up; one that is slow, but not so slow, is answered."""
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.4)
    monkeypatch.setattr(bodies, "MIN_RATE", 20_000)
    pieces, size = 20, 2_500
    with contextlib.closing(Client(small.port)) as honest, contextlib.closing(Client(small.port)) as trickle:
        honest.socket.sendall(request(b"a" * pieces * size, **ODD)[: -pieces * size])
        trickle.socket.sendall(request(b"a" * 100, **ODD)[:-100])
        for _ in range(pieces):  # a second
            honest.socket.sendall(b"a" * size)
            trickle.socket.sendall(b"a")
            time.sleep(0.05)
        assert honest.answer().startswith(b"HTTP/1.1 200 ")
        count = pieces
        while not select.select([trickle.socket], [], [], 0.05)[0]:
            trickle.socket.sendall(b"a")
            count += 1
        assert count < 90  # the server has not waited for the whole body
        assert trickle.answer().startswith(b"HTTP/1.1 408 ")
