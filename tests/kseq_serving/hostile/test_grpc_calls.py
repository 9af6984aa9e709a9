# ruff: noqa: F811 (fixtures of another module)
"""Calls of gRPC that send no message, an enormous one, or come in great numbers; a victim beside them is answered."""

import collections
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import get_model_status_pb2

from kseq_serving import admission, grpc_service, standard_services
from tests.kseq_serving.test_grpc_server import ANSWERED, STATUS, gate, raw, serve, status  # noqa: F401

REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
WATCH = "/grpc.health.v1.Health/Watch"
CHECK = "/grpc.health.v1.Health/Check"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
MIB = 2**20


class Silent:
    """Calls whose headers are sent, and no message."""

    def __init__(self, channel: grpc.Channel, path: str, count: int):
        self._go_on = threading.Event()
        self.calls = [channel.stream_unary(path).future(self._nothing(), timeout=20) for _ in range(count)]

    def _nothing(self):
        self._go_on.wait(20)
        yield from ()

    def codes(self) -> collections.Counter[str]:
        """Return the codes of the calls that have ended."""
        return collections.Counter(call.code().name for call in self.calls if call.done())

    def end(self) -> None:
        for call in self.calls:
            call.cancel()
        self._go_on.set()


@pytest.mark.parametrize("path", [PREDICT, STATUS, REFLECTION, WATCH, CHECK])
def test_calls_without_a_message_keep_nobody_out(serve, monkeypatch: pytest.MonkeyPatch, path: str):
    for module in (grpc_service, standard_services):
        monkeypatch.setattr(module, "MAX_CALLS", 10)
    monkeypatch.setattr(standard_services, "MAX_OPEN_CALLS", 10)
    server = serve(grpc_max_threads=1, max_waiting=4, enable_grpc_healthcheck_service=True)
    with (
        grpc.insecure_channel(server.address) as attacker,
        grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as victim,
    ):
        silent = Silent(attacker, path, 40)
        deadline = time.monotonic() + 10
        while silent.codes() != {"RESOURCE_EXHAUSTED": 30}:
            assert time.monotonic() < deadline, silent.codes()
            time.sleep(0.01)
        for _ in range(5):
            assert status(victim) == ANSWERED
            assert health_pb2_grpc.HealthStub(victim).Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1
        silent.end()


def test_a_call_whose_message_does_not_come_ends(serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grpc_service, "MESSAGE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(admission, "_SWEEP_S", 0.02)
    with grpc.insecure_channel(serve().address) as channel:
        silent = Silent(channel, PREDICT, 1)
        with pytest.raises(grpc.RpcError) as caught:
            silent.calls[0].result(10)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "did not come within 0.05 s" in caught.value.details()
        silent.end()
        assert status(channel) == ANSWERED


def test_a_call_that_ends_without_a_message_is_answered(serve):
    with grpc.insecure_channel(serve().address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(PREDICT)(iter(()), timeout=10)
    assert caught.value.code() is grpc.StatusCode.INTERNAL


COMPRESSIONS = [grpc.Compression.Gzip, grpc.Compression.Deflate]


@pytest.mark.long
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_messages_count_with_their_size_after_decompression(
    serve,
    monkeypatch: pytest.MonkeyPatch,
    compression: grpc.Compression,
):
    monkeypatch.setattr(grpc_service, "MAX_WAITING_BYTES", MIB)
    with grpc.insecure_channel(serve().address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(PREDICT)(bytes(64 * MIB), timeout=10, compression=compression)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == f"The messages of the waiting calls exceed {MIB} bytes. Try again later."
        assert status(channel) == ANSWERED


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compressed_messages_are_read(serve, compression: grpc.Compression):
    server = serve(enable_grpc_healthcheck_service=True)
    name = "m" * 10_000
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    with grpc.insecure_channel(server.address, compression=compression) as channel:
        assert raw(channel, STATUS, request.SerializeToString())[0] == "NOT_FOUND"
        with pytest.raises(grpc.RpcError) as caught:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_of_many_calls_at_once_each_is_answered_or_refused(serve, gate):
    """None is cancelled, and the calls of a victim take turns with them."""
    server = serve(grpc_max_threads=1, max_waiting=10)
    local = [("grpc.use_local_subchannel_pool", 1)]
    with (
        grpc.insecure_channel(server.address, local) as attacker,
        grpc.insecure_channel(server.address, local) as victim,
    ):
        flood = [attacker.unary_unary(STATUS).future(b"", timeout=20) for _ in range(500)]
        assert gate.begun.wait(10)
        asked = [victim.unary_unary(STATUS).future(b"", timeout=20) for _ in range(3)]
        deadline = time.monotonic() + 10
        while sum(call.done() for call in flood) < 492:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        gate.open()
        assert [call.result(10) for call in asked] == [b"", b"", b""]
        counts = collections.Counter(call.code().name for call in flood)
    assert counts == {"OK": 8, "RESOURCE_EXHAUSTED": 492}
