"""Attacks on a running server, and a client beside them that measures what it waits."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from tests.kseq_serving.clients import ServerProcess
from tests.kseq_serving.faults import MODEL, PATH, REST_BODY, TIMEOUT_S, memory_mib
from tests.kseq_serving.hostile.raw_http2 import Http2Client
from tests.kseq_serving.test_server import predict_request

PREDICT = "/tensorflow.serving.PredictionService/Predict"
FLOAT, STRING = 1, 7  # of DataType
MIB = 2**20
LARGE_BODY = b'{"instances": [' + b"1.25," * 40_000 + b"1.25]}"
NESTED = b'{"instances": [' + b"[[[[[[1]]]]]]," * (MIB // 14)  # cut off
LOCAL = [("grpc.use_local_subchannel_pool", 1)]


def post(server: ServerProcess, body: bytes, path: str = PATH, **headers: str) -> None:
    """Send a body, and wait for its answer at most ten seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=10)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("POST", path, body, headers)
        connection.getresponse().read()


def posts(body: bytes, count: int, path: str = PATH, **headers: str) -> Callable[[ServerProcess], None]:
    def attack(server: ServerProcess) -> None:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda _: post(server, body, path, **headers), range(count)))

    return attack


def lengths_without_an_end(server: ServerProcess) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    tensor = request.inputs["x"]
    tensor.dtype, tensor.tensor_content = 7, b"\xff" * 700 * 1024
    tensor.tensor_shape.dim.add(size=1)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", LOCAL) as channel:
        calls = [channel.unary_unary(PREDICT).future(request.SerializeToString(), timeout=1) for _ in range(8)]
        for call in calls:
            call.exception()


def calls_without_messages(server: ServerProcess) -> None:
    go_on = threading.Event()

    def nothing():
        go_on.wait(10)
        yield from ()

    with grpc.insecure_channel(f"127.0.0.1:{server.port}", LOCAL) as channel:
        calls = [channel.stream_unary(PREDICT).future(nothing(), timeout=10) for _ in range(600)]
        time.sleep(3)
        go_on.set()
        for call in calls:
            call.cancel()


def compressed_zeros(server: ServerProcess) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", LOCAL) as channel:
        zeros = bytes(256 * MIB)
        calls = [
            channel.unary_unary(PREDICT).future(zeros, timeout=10, compression=grpc.Compression.Gzip) for _ in range(4)
        ]
        for call in calls:
            call.exception()


def filled(dtype: int, count: int, **value: object) -> bytes:
    """Return a Predict message whose input is filled from one value."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = MODEL
    tensor = request.inputs["x"]
    tensor.MergeFrom(tensor_pb2.TensorProto(dtype=dtype, **value))
    tensor.tensor_shape.dim.add(size=count)
    return request.SerializeToString()


def one_text_for_many_elements(server: ServerProcess) -> None:
    message = filled(STRING, 1000, string_val=[b"x" * MIB])
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", LOCAL) as channel:
        calls = [channel.unary_unary(PREDICT).future(message, timeout=20) for _ in range(2)]
        for call in calls:
            call.exception()


def answers_that_are_not_taken(server: ServerProcess) -> None:
    client, message = Http2Client(f"127.0.0.1:{server.port}"), filled(FLOAT, 1_000_000, float_val=[1.0])
    with contextlib.closing(client), contextlib.suppress(OSError):
        for _ in range(400):
            client.call(PREDICT, message)
            time.sleep(0.01)
        time.sleep(5)


def a_long_name_for_reflection(server: ServerProcess) -> None:
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="x" * 50 * MIB)
    options = [*LOCAL, ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options) as channel, contextlib.suppress(grpc.RpcError):
        list(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]), timeout=20))


def requests_without_end(server: ServerProcess) -> None:
    """Send requests from the first packet on, and read no answer."""
    many = b"GET /v1/models/toy HTTP/1.1\r\nHost: a\r\n\r\n" * 1000
    with socket.create_connection(("127.0.0.1", server.rest_port), 1) as connection, contextlib.suppress(OSError):
        ends = time.monotonic() + 5
        while time.monotonic() < ends:
            connection.sendall(many)


def slow_heads(server: ServerProcess) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.rest_port)))
            connection.sendall(b"POST / HTTP/1.1\r\n")
        time.sleep(3)


ATTACKS: dict[str, Callable[[ServerProcess], None]] = {
    "none": lambda _server: time.sleep(2),
    "lengths of strings without an end, 5.6 MB": lengths_without_an_end,
    "truncated JSON, 8 x 6 MiB": posts(b'{"instances": [' + b"1.25," * (6 * MIB // 5), 8),
    "JSON of 16 MiB, 2 at once": posts(b'{"instances": [' + b"1.25," * (16 * MIB // 5) + b"1]}", 2),
    "the same for an unknown model": posts(
        b'{"instances": [' + b"1.25," * (16 * MIB // 5) + b"1]}", 2, "/v1/models/none:predict"
    ),
    "calls without a message, 600": calls_without_messages,
    "gzip bodies of 64 MiB, 4 at once": posts(gzip.compress(b"[" * 64 * MIB), 4, **{"Content-Encoding": "gzip"}),
    "compressed messages of 256 MiB, 4 at once": compressed_zeros,
    "slow request heads, 400": slow_heads,
    "nested JSON that is cut off, 6 x 1 MiB": posts(NESTED, 6),
    "the same in gzip, 2 kB": posts(gzip.compress(NESTED), 6, **{"Content-Encoding": "gzip"}),
    "examples with a member of 12 MB": posts(
        b'{"examples": [{"x": 1.0}], "z": [' + b"[]," * (4 * MIB) + b"1]}", 2, f"/v1/models/{MODEL}:classify"
    ),
    "one text of 1 MB for 1,000 elements, 2 at once": one_text_for_many_elements,
    "answers of 4 MB that are not taken, 400": answers_that_are_not_taken,
    "a name of 50 MB for reflection": a_long_name_for_reflection,
    "requests without end on one connection": requests_without_end,
}


class Victim:
    """Client that asks without a pause, and measures its longest wait."""

    def __init__(self, ask: Callable[[], object]):
        self.longest_s, self.failed = 0.0, 0
        self._ask, self._stop = ask, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Victim:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            started = time.perf_counter()
            try:
                self._ask()
            except Exception:
                self.failed += 1
            self.longest_s = max(self.longest_s, time.perf_counter() - started)
            time.sleep(0.005)


def beside(server: ServerProcess, attack: Callable[[ServerProcess], None]) -> str:
    """Run an attack beside clients, two with small requests and one with large ones; return a row of the table."""
    request = predict_request(MODEL, {"x": [1.0]}).SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", LOCAL) as channel:
        predict = channel.unary_unary(PREDICT)

        def ask_rest() -> None:
            assert server.rest_bytes(PATH, REST_BODY)[0] == 200

        def ask_large() -> None:
            assert server.rest_bytes(PATH, LARGE_BODY)[0] == 200

        ask_rest()
        ask_large()
        predict(request, timeout=TIMEOUT_S)
        rpc = Victim(lambda: predict(request, timeout=TIMEOUT_S))
        with Victim(ask_rest) as rest, Victim(ask_large) as large, rpc:
            time.sleep(0.3)
            attack(server)
            time.sleep(0.3)
    waits = " ".join(f"{victim.longest_s:8.3f}" for victim in (rest, large, rpc))
    return f"{waits} {rest.failed + large.failed + rpc.failed:7} {memory_mib(server)[1]:9.0f}"
