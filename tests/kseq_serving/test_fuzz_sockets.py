"""Fuzz tests over real sockets: malformed requests are answered as errors of the client, and the server goes on.

`KSEQ_FUZZ_INPUTS` sets the number of inputs per test.
"""

import contextlib
import gzip
import os
import random
import re
import selectors
import socket
import time
from collections import Counter

import grpc
import pytest
from google.protobuf.message import DecodeError

from tests.kseq_serving.clients import ServerProcess
from tests.kseq_serving.test_fuzz import BODIES, PATHS, mutate, requests
from tests.kseq_serving.test_server import predict_request

pytestmark = pytest.mark.server

INPUTS = int(os.environ.get("KSEQ_FUZZ_INPUTS", "400"))
AT_ONCE = 50
WAIT_S = 0.5  # for a response; none comes while the server waits for the rest of a request
PREDICT = "/tensorflow.serving.PredictionService/Predict"
HTTP_2, SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\4\0\0\0\0\0"
METHODS = {b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"HEAD", b"OPTIONS"}


def complaints(server: ServerProcess) -> list[str]:
    """Return the lines of the log that report failures of the server itself."""
    return re.findall(r"^\S+ \S+ E .*|^Traceback.*", server.log.read_text(errors="replace"), re.MULTILINE)


def http_requests() -> list[bytes]:
    body, packed = BODIES[0], gzip.compress(BODIES[0], mtime=0)
    head = b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    post = head % (b"POST", PATHS[0].encode())
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    length = b"Content-Length: %d\r\n\r\n"
    return [
        *(head % (b"GET", path.encode()) + b"\r\n" for path in PATHS[4:]),
        *(head % (b"POST", path.encode()) + length % len(body) + body for path in PATHS[:4]),
        post + b"Content-Encoding: gzip\r\n" + length % len(packed) + packed,
        post + b"Transfer-Encoding: chunked\r\n\r\n" + chunked,
        post + b"Expect: 100-continue\r\n" + length % len(body) + body,
        (post.replace(b"close", b"keep-alive") + length % len(body) + body) * 2,
    ]


def exchange(server: ServerProcess, inputs: list[bytes]) -> list[bytes]:
    """Send each input over its own connection, all at the same time, and return the bytes that come back."""
    received: dict[socket.socket, bytes] = {}
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for data in inputs:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.rest_port), timeout=5))
            received[connection] = b""
            with contextlib.suppress(ConnectionError):  # the server closed before it had read everything
                connection.sendall(data)
            selector.register(connection, selectors.EVENT_READ)
        deadline = time.monotonic() + WAIT_S
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(0.05):
                try:
                    chunk = key.fileobj.recv(65536)
                except ConnectionError:
                    chunk = b""
                received[key.fileobj] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
    return list(received.values())


def statuses(answer: bytes) -> list[int]:
    """Return the statuses of the responses in the received bytes."""
    found = []
    while head := re.match(rb"HTTP/[0-9]\.[0-9] ([0-9]{3}) .*?\r\n\r\n", answer, re.DOTALL):
        found.append(int(head[1]))
        length = re.search(rb"Content-Length: ([0-9]+)", head[0])
        answer = answer[head.end() + (int(length[1]) if length and found[-1] >= 200 else 0) :]
    assert not answer or b"HEAD" in answer, answer
    return found


def test_http(server: ServerProcess):
    chance, seen = random.Random(4), Counter[int]()
    seeds = http_requests()
    assert {status for answer in exchange(server, seeds) for status in statuses(answer)} >= {100, 200}
    for _ in range(0, INPUTS, AT_ONCE):
        inputs = [mutate(chance.choice(seeds), chance) for _ in range(AT_ONCE)]
        for data, answer in zip(inputs, exchange(server, inputs), strict=True):
            # A body whose length was lost is read as the next request, and `{"instances":` is no method.
            first_words = {part.split(b" ")[0] for part in data.split(b"\r\n\r\n")}
            for status in statuses(answer):
                unknown_method = status == 501 and not first_words <= METHODS
                assert status < 500 or unknown_method, f"{data!r}\n{answer!r}"
                seen[status] += 1
    assert seen[200] > 10
    assert seen[400] > 50
    assert server.rest("POST", "/v1/models/toy:predict", {"instances": [1.0]}) == (200, {"predictions": [2.5]})
    assert complaints(server) == []


def test_grpc_messages(server: ServerProcess):
    chance, codes = random.Random(5), Counter[str]()
    seeds = [message for _, message in requests()[:3]]
    with server.channel() as channel:
        for _ in range(INPUTS):
            message = chance.choice(seeds)
            data = mutate(message.SerializeToString(), chance)
            try:
                channel.unary_unary(PREDICT)(data, timeout=30)
                code = "OK"
            except grpc.RpcError as error:
                code = error.code().name
            codes[code] += 1
            assert (code == "INTERNAL") == (not parses(type(message), data)), (code, data)
    assert codes.keys() <= {"OK", "INTERNAL", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}
    assert codes["OK"]
    assert codes["INTERNAL"]
    assert complaints(server) == []


def parses(kind: type, data: bytes) -> bool:
    try:
        kind.FromString(data)
    except DecodeError:
        return False
    return True


@pytest.mark.parametrize("preface", [b"", HTTP_2, HTTP_2 + SETTINGS], ids=["nothing", "preface", "settings"])
def test_what_is_no_grpc(server: ServerProcess, preface: bytes):
    chance = random.Random(6)
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(preface + chance.randbytes(chance.randint(1, 300)))
    assert server.predict(predict_request("toy", {"x": [1.0]})).outputs["y"].float_val == [2.5]
