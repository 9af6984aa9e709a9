"""Methods and request targets that are malformed or unusual, answered as by TensorFlow Serving."""

import socket
from collections.abc import Iterator

import pytest

from kseq_serving.core import ServerCore
from kseq_serving.errors import InvalidArgumentError
from kseq_serving.flags import Flags
from kseq_serving.grpc_service import answer_predict
from kseq_serving.protocol.protos import ConfigProto, PredictRequest
from kseq_serving.rest.api import HttpRequest, RestApi
from kseq_serving.rest.http_server import HttpServer
from kseq_serving.workers import Workers
from tests.kseq_serving.conftest import Run
from tests.kseq_serving.ports import free_port


@pytest.fixture(scope="module")
def port(run: Run) -> Iterator[int]:
    port = free_port()
    server = run(start(port))
    yield port
    run(server.stop())


async def start(port: int) -> HttpServer:
    server = HttpServer(RestApi(ServerCore(Flags(), ConfigProto())), Workers(1, name="rest"), grace_s=1.0)
    await server.start(port)
    return server


def ask(port: int, line: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(line + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b""
        while chunk := client.recv(4096):
            received += chunk
    return received


@pytest.mark.parametrize(
    ("line", "status", "body"),
    [
        (b"FOO /v1/models/m", 501, b"<H1>Not Implemented</H1>"),
        (b"get /v1/models/m", 501, b"<H1>Not Implemented</H1>"),
        (b"PROPFIND /v1/models/m", 501, b"<H1>Not Implemented</H1>"),
        (b"FOO /v1/models/%zz", 501, b"<H1>Not Implemented</H1>"),
        (b"GET /v1/models/\xff\xfe", 400, b"<H1>Bad Request</H1>"),
        (b"GET /v1/models/%zz", 400, b"<H1>Bad Request</H1>"),
        (b"GET /v1/models/m%2", 400, b"<H1>Bad Request</H1>"),
        (b"GET /v1/models/{m}", 400, b"<H1>Bad Request</H1>"),
        (b"GET /elsewhere/%", 400, b"<H1>Bad Request</H1>"),
        (b"GET /v1/models/m%20m", 404, b"versions of model m m"),
        (b"GET http://any.example/v1/models/m", 404, b"versions of model m"),
        (b"GET http://any.example:80/elsewhere", 404, b"<H1>Not Found</H1>"),
        (b"GET /v1/models/m/METADATA", 404, b"Could not find any versions of model m"),
        (b"GET /v1/models/m/metadata", 404, b"Servable not found for request: Latest(m)"),
    ],
)
def test_targets_and_methods(port: int, line: bytes, status: int, body: bytes):
    received = ask(port, line)
    assert received.split(b" ", 2)[1] == str(status).encode()
    assert body in received


def test_an_empty_name_is_refused_before_the_model_is_looked_for():
    core = ServerCore(Flags(), ConfigProto())
    request = PredictRequest()
    request.model_spec.signature_name = "s"
    with pytest.raises(InvalidArgumentError, match="ModelSpec has no name specified"):
        answer_predict(core, request)


def test_a_target_in_absolute_form_is_its_path():
    for target, path in (("http://a/b?c", "/b?c"), ("HTTPS://a:1", "/"), ("/http://a/b", "/http://a/b")):
        assert HttpRequest("GET", target).in_origin_form().path == path
