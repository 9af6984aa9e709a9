"""Ports, credentials, health and reflection of the gRPC server, without models."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from kseq_serving import grpc_service
from kseq_serving.core import ServerCore
from kseq_serving.errors import InvalidArgumentError, ServingError, UnimplementedError
from kseq_serving.flags import Flags
from kseq_serving.grpc_server import GrpcServer
from kseq_serving.protocol.protos import ConfigProto, SSLConfig
from kseq_serving.workers import Workers
from tests.kseq_serving.conftest import Run
from tests.kseq_serving.ports import free_port


class Running:
    """Running gRPC server."""

    def __init__(self, options: Flags, run: Run, max_waiting: int | None):
        self._options = options
        self.workers = Workers(options.grpc_max_threads, name="grpc", max_waiting=max_waiting)
        self._run = run
        self._server = run(self._start())
        self.address = f"127.0.0.1:{options.port}"

    def stop(self, grace_s: float) -> None:
        self._run(self._server.stop(grace_s))

    async def _start(self) -> GrpcServer:
        server = GrpcServer(ServerCore(self._options, ConfigProto()), self._options, self.workers)
        await server.start()
        return server


Serve = Callable[..., Running]


@pytest.fixture
def serve(run: Run) -> Iterator[Serve]:
    """Function that starts a server on a free port."""
    started: list[Running] = []

    def start(*, max_waiting: int | None = None, **flags: Any) -> Running:
        started.append(Running(Flags(**({"port": free_port()} | flags)), run, max_waiting))
        return started[-1]

    yield start
    for server in started:
        server.stop(0.0)


def status(channel: grpc.Channel) -> tuple[str, str]:
    """Return the answer to a request for the status of an unknown model."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "m"
    with pytest.raises(grpc.RpcError) as caught:
        model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=10)
    return caught.value.code().name, caught.value.details()


ANSWERED = ("NOT_FOUND", "Could not find any versions of model m")


def raw(channel: grpc.Channel, path: str, body: bytes) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(body, timeout=10)
    return caught.value.code().name, caught.value.details()


def test_what_is_no_method_or_no_message_gets_a_bare_status(serve: Serve):
    with grpc.insecure_channel(serve().address) as channel:
        assert raw(channel, "/tensorflow.serving.PredictionService/Nope", b"") == ("UNIMPLEMENTED", "")
        assert raw(channel, "/no.Service/Nope", b"") == ("UNIMPLEMENTED", "")
        assert raw(channel, "/tensorflow.serving.PredictionService/Predict", b"\xff\xff") == ("INTERNAL", "")
        assert status(channel) == ANSWERED


def test_a_unix_socket(serve: Serve, tmp_path: Path):
    serve(port=0, grpc_socket_path=f"{tmp_path}/s")
    with grpc.insecure_channel(f"unix:{tmp_path}/s") as channel:
        assert status(channel) == ANSWERED


def check_health(channel: grpc.Channel, name: str) -> int | tuple[str, str]:
    try:
        request = health_pb2.HealthCheckRequest(service=name)
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status
    except grpc.RpcError as error:
        return error.code().name, error.details()


def test_health_is_served_where_asked_for(serve: Serve):
    with grpc.insecure_channel(serve(enable_grpc_healthcheck_service=True).address) as channel:
        assert [check_health(channel, name) for name in ("", "ModelService", "PredictionService")] == [1, 1, 1]
        assert check_health(channel, "nope") == ("NOT_FOUND", "service name unknown")
    with grpc.insecure_channel(serve().address) as channel:
        assert check_health(channel, "") == ("UNIMPLEMENTED", "")


def test_reflection_tells_services_and_messages(serve: Serve):
    with grpc.insecure_channel(serve().address) as channel:
        ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        requests = (
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="tensorflow.serving.PredictionService"),
        )
        listed, file = ask(iter(requests), timeout=10)
    names = {service.name for service in listed.list_services_response.service}
    assert {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"} <= names
    descriptors = [FileDescriptorProto.FromString(data) for data in file.file_descriptor_response.file_descriptor_proto]
    methods = {method.name for proto in descriptors for service in proto.service for method in service.method}
    assert {"Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"} <= methods


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def pem(*blobs: trustme.Blob) -> str:
    return b"".join(blob.bytes() for blob in blobs).decode()


def ssl_file(folder: Path, **fields: Any) -> str:
    path = folder / "ssl.config"
    path.write_text(str(SSLConfig(**fields)))
    return str(path)


def test_tls(serve: Serve, authority: trustme.CA, tmp_path: Path):
    own = authority.issue_cert("localhost", "127.0.0.1")
    file = ssl_file(tmp_path, server_key=pem(own.private_key_pem), server_cert=pem(*own.cert_chain_pems))
    address = serve(ssl_config_file=file).address
    trust = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    with grpc.secure_channel(address, trust) as channel:
        assert status(channel) == ANSWERED
    with grpc.insecure_channel(address) as channel:
        assert status(channel)[0] == "UNAVAILABLE"


def test_tls_with_clients_that_must_prove_who_they_are(serve: Serve, authority: trustme.CA, tmp_path: Path):
    own, client = authority.issue_cert("localhost", "127.0.0.1"), authority.issue_cert("client@example.org")
    file = ssl_file(
        tmp_path,
        server_key=pem(own.private_key_pem),
        server_cert=pem(*own.cert_chain_pems),
        custom_ca=pem(authority.cert_pem),
        client_verify=True,
    )
    address = serve(ssl_config_file=file).address
    chain = b"".join(blob.bytes() for blob in client.cert_chain_pems)
    trust = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), client.private_key_pem.bytes(), chain)
    with grpc.secure_channel(address, trust) as channel:
        assert status(channel) == ANSWERED
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(authority.cert_pem.bytes())) as channel:
        assert status(channel)[0] == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"server_key": "k"}, "must give both server_key and server_cert"),
        ({"server_key": "k", "server_cert": "c", "client_verify": True}, "needs the certificates to verify against"),
    ],
)
def test_credentials_that_cannot_be_used_are_refused(serve: Serve, tmp_path: Path, fields: dict, message: str):
    with pytest.raises(InvalidArgumentError, match=message):
        serve(ssl_config_file=ssl_file(tmp_path, **fields))
    with pytest.raises(UnimplementedError):
        serve(use_alts_credentials=True)


def test_a_port_in_use_is_said(serve: Serve):
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        with pytest.raises(ServingError, match="gRPC cannot listen at"):
            serve(port=other.getsockname()[1])


STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


class Gate:
    """Replacement of the status handler, which holds requests until the gate is opened."""

    def __init__(self) -> None:
        self.begun, self._open = threading.Event(), threading.Event()

    def answer(self, core: ServerCore, request: Any, timeout_s: float | None) -> Any:
        self.begun.set()
        assert self._open.wait(10)
        return get_model_status_pb2.GetModelStatusResponse()

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    replace_status(monkeypatch, grpc_service.METHODS[STATUS].request, gate.answer)
    yield gate
    gate.open()


def replace_status(monkeypatch: pytest.MonkeyPatch, request: Any, answer: Callable[..., Any]) -> None:
    methods = {**grpc_service.METHODS, STATUS: grpc_service.Method(request, answer)}
    monkeypatch.setattr(grpc_service, "METHODS", methods)


def wait_in_flight(server: Running, count: int) -> None:
    deadline = time.monotonic() + 10
    while server.workers.in_flight != count:
        assert time.monotonic() < deadline, server.workers.in_flight
        time.sleep(0.005)


def test_stopping_answers_what_is_in_progress_and_refuses_the_rest(serve: Serve, gate: Gate):
    server = serve()
    with ThreadPoolExecutor(2) as pool, grpc.insecure_channel(server.address) as channel:
        in_progress = pool.submit(channel.unary_unary(STATUS), b"", timeout=10)
        assert gate.begun.wait(10)
        stopping = pool.submit(server.stop, 10.0)
        time.sleep(0.2)
        assert raw(channel, STATUS, b"")[0] == "UNAVAILABLE"
        gate.open()
        assert in_progress.result() == b""
        stopping.result(10)


def test_too_many_at_once_are_refused_and_the_server_recovers(serve: Serve, gate: Gate):
    server = serve(grpc_max_threads=1, max_waiting=1)
    with grpc.insecure_channel(server.address) as channel:
        waiting = [channel.unary_unary(STATUS).future(b"", timeout=10) for _ in range(2)]
        wait_in_flight(server, 2)
        assert raw(channel, STATUS, b"")[0] == "RESOURCE_EXHAUSTED"
        gate.open()
        assert [call.result() for call in waiting] == [b"", b""]
        assert channel.unary_unary(STATUS)(b"", timeout=10) == b""


def test_a_call_that_its_client_cancels_leaves_the_queue(serve: Serve, gate: Gate):
    server = serve(grpc_max_threads=1, max_waiting=2)
    with grpc.insecure_channel(server.address) as channel:
        running = channel.unary_unary(STATUS).future(b"", timeout=10)
        assert gate.begun.wait(10)
        for _ in range(5):  # more than fit at a time
            waiting = channel.unary_unary(STATUS).future(b"", timeout=10)
            wait_in_flight(server, 2)
            waiting.cancel()
            wait_in_flight(server, 1)
        gate.open()
        assert running.result() == b""


def test_a_request_is_parsed_on_a_workers_thread(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    """Parsing hundreds of megabytes takes a second, which would stop the event loop's thread."""
    threads = []

    class Request:
        @staticmethod
        def FromString(data: bytes) -> get_model_status_pb2.GetModelStatusRequest:  # noqa: N802
            threads.append(threading.current_thread().name)
            return get_model_status_pb2.GetModelStatusRequest.FromString(data)

    def answer(core: ServerCore, request: Any, timeout_s: float | None) -> Any:
        return get_model_status_pb2.GetModelStatusResponse()

    replace_status(monkeypatch, Request, answer)
    with grpc.insecure_channel(serve().address) as channel:
        assert channel.unary_unary(STATUS)(b"", timeout=10) == b""
    assert threads == ["grpc"]
