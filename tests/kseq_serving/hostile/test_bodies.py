"""Compressed bodies, whose size after decompression counts."""

import gzip
import http.client
import json

import pytest

from kseq_serving.errors import Code, ServingError
from kseq_serving.rest import http_server
from tests.kseq_serving.clients import wait_for
from tests.kseq_serving.conftest import Run
from tests.kseq_serving.test_http_server import PATH, Running

MIB = 2**20


def test_no_more_is_decompressed_than_may_be_taken():
    taken = []

    def take(size: int) -> None:
        taken.append(size)
        if sum(taken) > 4 * MIB:
            raise ServingError(Code.RESOURCE_EXHAUSTED, "enough")

    with pytest.raises(ServingError, match="enough"):
        http_server.decompress(gzip.compress(bytes(64 * MIB), 1), take)
    assert sum(taken) <= 5 * MIB


def test_a_body_is_refused_by_its_size_after_decompression(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_server, "MAX_BODY_BYTES", MIB)
    assert len(http_server.decompress(gzip.compress(bytes(MIB)), lambda _size: None)) == MIB
    with pytest.raises(ServingError, match="larger than"):
        http_server.decompress(gzip.compress(bytes(MIB + 1)), lambda _size: None)


@pytest.mark.parametrize("body", [b"", b"plain", gzip.compress(bytes(MIB))[:-9], b"\x1f\x8b" + bytes(100)])
def test_a_broken_body_is_empty(body: bytes):
    assert http_server.decompress(body, lambda _size: None) == b""


def test_many_small_pieces_are_decompressed_like_one():
    plain = json.dumps(list(range(200_000))).encode()
    assert http_server.decompress(gzip.compress(plain), lambda _size: None) == plain


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
        wait_for(lambda: server._server._bodies.used == 0)  # just after the answer
    finally:
        server.stop()
        server.core.stop(0.0)


def post_gzip(connection: http.client.HTTPConnection, plain: bytes) -> int:
    connection.request("POST", PATH, gzip.compress(plain), {"Content-Encoding": "gzip"})
    response = connection.getresponse()
    response.read()
    return response.status
