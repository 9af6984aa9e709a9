"""Fake servers with one signature, from `x` float32 to the same `y`; they record requests and fail as told."""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import tensorflow as tf

from kseq_serving.errors import Code
from kseq_serving.protocol import protos

BREAK = "break"  # ends the connection without an answer

Failure = Code | str | bytes | Callable[[], None]
"""Code or body to answer with, BREAK, or a function to call before the right answer."""


class Fake:
    """State that both kinds of server share.

    Args:
        failures: Failures of the first predict calls; later ones are answered.
    """

    def __init__(self, failures: Sequence[Failure] = ()):
        self.failures = list(failures)
        self.asked: list[str] = []
        self._lock = threading.Lock()

    def next_failure(self, name: str) -> Failure | None:
        with self._lock:
            self.asked.append(name)
            return self.failures.pop(0) if name == "predict" and self.failures else None


def signatures() -> protos.SignatureDefMap:
    message = protos.SignatureDefMap()
    signature = message.signature_def["serving_default"]
    for infos, name in ((signature.inputs, "x"), (signature.outputs, "y")):
        infos[name].dtype = tf.float32.as_datatype_enum
        infos[name].tensor_shape.dim.add(size=-1)
    return message


class FakeGrpc(grpc.GenericRpcHandler):
    """Fake server over gRPC; `address` is a host and port, or `unix:` and a path."""

    def __init__(
        self, address: str = "127.0.0.1:0", *failures: Failure, credentials: grpc.ServerCredentials | None = None
    ):
        self.fake = Fake(failures)
        self._server = grpc.server(ThreadPoolExecutor(8), handlers=(self,))
        if credentials:
            self.port = self._server.add_secure_port(address, credentials)
        else:
            self.port = self._server.add_insecure_port(address)
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        if handler_call_details.method.endswith("/Predict"):
            return grpc.unary_unary_rpc_method_handler(self._predict, protos.PredictRequest.FromString, _serialize)
        return grpc.unary_unary_rpc_method_handler(self._metadata, None, _serialize)

    def _predict(self, request: protos.PredictRequest, context: grpc.ServicerContext) -> protos.PredictResponse:
        failure = self.fake.next_failure("predict")
        if isinstance(failure, Code):
            context.abort(failure.grpc_status, "as the test wants")
        if callable(failure):
            failure()
        response = protos.PredictResponse()
        response.outputs["y"].CopyFrom(request.inputs["x"])
        return response

    def _metadata(self, request: bytes, context: grpc.ServicerContext) -> protos.GetModelMetadataResponse:
        self.fake.next_failure("metadata")
        response = protos.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(signatures())
        return response


def _serialize(message: Any) -> bytes:
    return message.SerializeToString()


class FakeRest:
    """Fake server over REST on `127.0.0.1`."""

    def __init__(self, port: int = 0, *failures: Failure, context: ssl.SSLContext | None = None):
        self.fake = fake = Fake(failures)

        class Handler(_Handler):
            pass

        Handler.fake = fake
        self._server = _Server(("127.0.0.1", port), Handler)
        if context:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in self._server.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    fake: Fake
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.fake.next_failure("metadata")
        infos = {
            name: {"dtype": "DT_FLOAT", "name": "", "tensor_shape": {"dim": [{"size": "-1", "name": ""}]}}
            for name in "xy"
        }
        signature = {"inputs": {"x": infos["x"]}, "outputs": {"y": infos["y"]}, "method_name": ""}
        # As in TensorFlow Serving, the answer has members that the client must ignore, such as the type.
        found = {"@type": "type.googleapis.com/x", "signature_def": {"serving_default": signature}}
        self._answer(200, {"model_spec": {"name": "m", "version": "1"}, "metadata": {"signature_def": found}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        failure = self.fake.next_failure("predict")
        if failure == BREAK:
            self.close_connection = True
        elif isinstance(failure, Code):
            self._answer(failure.http_status, {"error": "as the test wants"})
        elif isinstance(failure, bytes):
            self._answer(200, failure)
        else:
            if callable(failure):
                failure()
            self._answer(200, {"outputs": body["inputs"]["x"]})

    def _answer(self, status: int, document: Any) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass
