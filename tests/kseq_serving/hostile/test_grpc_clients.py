# ruff: noqa: F811 (fixtures of another module)
"""Clients of gRPC that take no answers, or open connections without end; a victim beside them is answered."""

from __future__ import annotations

import contextlib
import dataclasses
import socket

import grpc
import pytest
from grpc_health.v1 import health_pb2
from tensorflow_serving.apis import get_model_status_pb2

from kseq_serving import grpc_answers, grpc_server, grpc_service
from kseq_serving.grpc_answers import CALL_BYTES
from tests.kseq_serving.clients import wait_for
from tests.kseq_serving.hostile.raw_http2 import Http2Client
from tests.kseq_serving.hostile.test_grpc_calls import CHECK, PREDICT, REFLECTION
from tests.kseq_serving.test_grpc_server import ANSWERED, Running, raw, serve, status  # noqa: F401

MIB = 2**20


class Answers:
    """Answers of Predict, of a MiB each; no client takes one at once."""

    def __init__(self) -> None:
        self.count = 0
        self.size = MIB

    def __call__(self, *_arguments, **_options) -> Answers:
        self.count += 1
        return self

    def SerializeToString(self) -> bytes:  # noqa: N802
        return bytes(self.size)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    made = Answers()
    request = get_model_status_pb2.GetModelStatusRequest
    method = dataclasses.replace(grpc_service.METHODS[PREDICT], request=request, answer=made, api="")
    monkeypatch.setattr(grpc_service, "METHODS", {**grpc_service.METHODS, PREDICT: method})
    return made


def asked(server: Running, count: int) -> Http2Client:
    """Ask for answers that are not taken."""
    client = Http2Client(server.address)
    for _ in range(count):
        client.call(PREDICT)
    return client


def test_answers_that_nobody_takes_are_bounded_in_bytes(serve, answers: Answers, monkeypatch: pytest.MonkeyPatch):
    """The connection with the most of them is closed."""
    monkeypatch.setattr(grpc_service, "MAX_ANSWERS_BYTES", 5 * (MIB + CALL_BYTES))
    server = serve()
    many = asked(server, 3)
    with contextlib.closing(asked(server, 2)) as few, grpc.insecure_channel(server.address) as victim:
        wait_for(lambda: answers.count == 5)
        assert victim.unary_unary(PREDICT)(b"", timeout=10) == bytes(MIB)
        assert status(victim) == ANSWERED
        many.wait_closed()
        for _ in range(3):  # there is room for them
            assert victim.unary_unary(PREDICT)(b"", timeout=10) == bytes(MIB)
        assert few.is_open


def test_an_enormous_answer_closes_the_connection_of_nobody_else(
    serve, answers: Answers, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(grpc_service, "MAX_ANSWERS_BYTES", 4 * (MIB + CALL_BYTES))
    server = serve()
    with contextlib.closing(asked(server, 1)) as small:
        wait_for(lambda: answers.count == 1)
        monkeypatch.setattr(answers, "size", 16 * MIB)
        with contextlib.closing(asked(server, 1)) as large:
            wait_for(lambda: answers.count == 2)
            with grpc.insecure_channel(server.address) as victim:
                assert status(victim) == ANSWERED
            assert small.is_open
            assert large.is_open
        asked(server, 3).wait_closed()  # has the most
        assert small.is_open


def test_answers_that_nobody_takes_are_bounded_in_number(serve, answers: Answers, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grpc_service, "MAX_ANSWERS_BYTES", 3 * CALL_BYTES)
    monkeypatch.setattr(answers, "size", 10)
    server = serve()
    asked(server, 3).wait_closed()
    with grpc.insecure_channel(server.address) as victim:
        assert status(victim) == ANSWERED


def test_a_connection_that_does_not_take_an_answer_in_time_is_closed(
    serve, answers: Answers, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(grpc_service, "ANSWER_TIMEOUT_S", 0.05)
    monkeypatch.setattr(grpc_answers, "_SWEEP_S", 0.02)
    server = serve()
    asked(server, 1).wait_closed()
    with grpc.insecure_channel(server.address) as channel:
        assert channel.unary_unary(PREDICT)(b"", timeout=10) == bytes(MIB)


def test_a_connection_of_ipv6_is_found_by_its_name():
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as listener,
        socket.create_connection(listener.getsockname()[:2]) as client,
        listener.accept()[0],
    ):
        grpc_answers.close_connection(f"ipv6:%5B::1%5D:{client.getsockname()[1]}")
        assert client.recv(1) == b""


def test_whole_messages_count_before_they_are_parsed(serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grpc_service, "MAX_WAITING_BYTES", 10_000)
    with grpc.insecure_channel(serve().address) as channel:
        text = "The messages of the waiting calls exceed 10000 bytes. Try again later."
        assert raw(channel, PREDICT, bytes(10_001)) == ("RESOURCE_EXHAUSTED", text)
        assert status(channel) == ANSWERED


@pytest.mark.parametrize("path", [CHECK, REFLECTION])
def test_what_the_event_loop_reads_is_small(serve, path: str):
    """A name of 100 MB would hold up all calls for seconds."""
    name = health_pb2.HealthCheckRequest(service="x" * 2**16).SerializeToString()
    with grpc.insecure_channel(serve(enable_grpc_healthcheck_service=True).address) as channel:
        assert raw(channel, path, name)[0] == "RESOURCE_EXHAUSTED"
        assert raw(channel, path, b"\xff\xff") == ("INTERNAL", "")
        assert status(channel) == ANSWERED


def test_connections_are_bounded(serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grpc_server, "max_connections", lambda: 3)
    server = serve()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(asked(server, 1))) for _ in range(3)]
        asked(server, 1).wait_closed()
        assert all(client.is_open for client in clients)
    with grpc.insecure_channel(server.address) as channel:
        assert status(channel) == ANSWERED


def test_a_connection_that_sends_nothing_is_closed(serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grpc_server, "HANDSHAKE_TIMEOUT_S", 0.2)
    host, port = serve().address.split(":")
    with socket.create_connection((host, int(port)), 10) as silent:
        while silent.recv(100):
            pass
