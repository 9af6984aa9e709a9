"""Good and bad clients of a server that batches: no bad one changes the answers of a good one.

For `test_isolation.py` and `benchmarks/serving_faults.py`. The server serves the models `toy` and `shapes` of
`toy_models`.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from tests.kseq_serving.clients import ServerProcess
from tests.kseq_serving.test_server import predict_request

PREDICT = "/tensorflow.serving.PredictionService/Predict"
TIMEOUT_S = 30.0
BATCHING = """
max_batch_size {{ value: 16 }}
batch_timeout_micros {{ value: 2000 }}
max_enqueued_batches {{ value: 1000 }}
num_batch_threads {{ value: 2 }}
pad_variable_length_inputs: {padded}
"""

Answer = tuple[str, Any]
"""Status, and the outputs by name as arrays, or the text of an error."""


class Question(NamedTuple):
    """A good request, and what is expected of its answer."""

    model: str
    signature: str
    inputs: dict[str, np.ndarray]
    output: str
    expected: np.ndarray


class Report(NamedTuple):
    """What the clients counted.

    Attributes:
        good: Number of good requests.
        failed: Errors of good requests, with their numbers.
        crossed: Answers to good requests with other values than expected; at most ten are kept.
        bad: Statuses of bad requests, with their numbers.
    """

    good: int
    failed: dict[str, int]
    crossed: list[str]
    bad: dict[str, int]

    def __str__(self) -> str:
        return (
            f"{self.good} good requests, {sum(self.failed.values())} failed {self.failed or ''}, {len(self.crossed)} "
            f"crossed {self.crossed or ''}; {sum(self.bad.values())} bad ones: {self.bad}"
        )


def question(chance: random.Random, tag: int, *, padded: bool) -> Question:
    """Return a good request whose values, from `tag`, no other request has."""
    kind, rows = chance.randrange(4), chance.randint(1, 3)
    numbers = tag + np.arange(rows)
    if kind == 0:
        x = numbers.astype(np.float32)
        return Question("toy", "serving_default", {"x": x}, "y", x / 2 + 2)
    if kind == 1:
        texts = [f"text {number}" for number in numbers]
        return Question(
            "toy", "upper", {"text": np.array(texts, object)}, "upper", np.array([t.upper() for t in texts])
        )
    if kind == 2:
        x = np.full(rows, chance.randint(1, 10), np.int32)
        return Question("toy", "divide", {"x": x}, "y", 10 // x)
    x = np.repeat(numbers[:, None], chance.randint(1, 5) if padded else 3, axis=1).astype(np.float32)
    return Question("shapes", "serving_default", {"x": x}, "x", x)


def is_right(asked: Question, outputs: dict[str, Any]) -> bool:
    """Return whether an answer is that to the question; padding repeats the request's first value."""
    got, expected = np.asarray(outputs.get(asked.output)), asked.expected
    if expected.ndim == 2 and got.ndim == 2 and got.shape[1] > expected.shape[1]:
        filling = np.full((len(expected), got.shape[1] - expected.shape[1]), expected.flat[0])
        expected = np.concatenate([expected, filling], axis=1)
    return got.shape == expected.shape and got.tolist() == expected.tolist()


class RestClient:
    """Client with one connection over REST."""

    def __init__(self, server: ServerProcess):
        self._connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=TIMEOUT_S)

    def close(self) -> None:
        self._connection.close()

    def post(self, model: str, body: bytes) -> Answer:
        try:
            self._connection.request("POST", f"/v1/models/{model}:predict", body)
            response = self._connection.getresponse()
            return str(response.status), response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return type(error).__name__, b""

    def ask(self, asked: Question) -> Answer:
        inputs = {name: value.tolist() for name, value in asked.inputs.items()}
        status, text = self.post(
            asked.model, json.dumps({"signature_name": asked.signature, "inputs": inputs}).encode()
        )
        if status != "200":
            return status, text.decode(errors="replace")
        outputs = json.loads(text)["outputs"]
        return status, outputs if isinstance(outputs, dict) else {asked.output: outputs}

    def misbehave(self, chance: random.Random) -> str:
        model, body = chance.choice(
            [
                ("toy", b'{"signature_name": "divide", "instances": [5, 0]}'),  # fails in the graph
                ("toy", b'{"instances": [1.0, [2.0]]}'),
                ("toy", b'{"instances": ["text"]}'),
                ("toy", b'{"instances": [1.0, 2.0'),
                ("toy", b'{"signature_name": "none", "instances": [1.0]}'),
                ("shapes", b'{"instances": [[1, 2, 3, 4, 5, 6, 7]]}'),
                ("shapes", b'{"instances": [1, 2]}'),
                ("shapes", b'{"inputs": []}'),
                ("shapes", b'{"signature_name": "both", "inputs": {"a": [[1], [2]], "b": [[1]]}}'),
                ("shapes", b'{"signature_name": "sum", "inputs": [[1, 2]]}'),  # no rows in its answer
                ("shapes", b'{"signature_name": "twice", "inputs": [[1, 2]]}'),  # more rows than it was asked
            ]
        )
        return f"REST {self.post(model, body)[0]}"


class GrpcClient:
    """Client with one connection over gRPC."""

    def __init__(self, server: ServerProcess):
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{server.port}", options)
        self._predict = self._channel.unary_unary(PREDICT)

    def close(self) -> None:
        self._channel.close()

    def send(self, message: bytes, timeout_s: float = TIMEOUT_S) -> Answer:
        try:
            return "OK", self._predict(message, timeout=timeout_s)
        except grpc.RpcError as error:
            return error.code().name, error.details()

    def ask(self, asked: Question) -> Answer:
        request = predict_request(asked.model, asked.inputs, asked.signature)
        status, data = self.send(request.SerializeToString())
        if status != "OK":
            return status, data
        outputs = predict_pb2.PredictResponse.FromString(data).outputs
        arrays = {name: tf.make_ndarray(tensor) for name, tensor in outputs.items()}
        return status, {
            name: np.array([text.decode() for text in array]) if array.dtype == object else array
            for name, array in arrays.items()
        }

    def misbehave(self, chance: random.Random) -> str:
        model, signature, inputs = chance.choice(
            [
                ("toy", "divide", {"x": np.zeros(2, np.int32)}),
                ("toy", "serving_default", {"x": np.ones(2, np.int32)}),
                ("toy", "serving_default", {"x": np.ones((2, 2), np.float32)}),
                ("toy", "upper", {"text": np.ones(1, np.float32)}),
                ("toy", "none", {"x": np.ones(1, np.float32)}),
                ("shapes", "serving_default", {"x": np.ones((1, 7), np.float32)}),
                ("shapes", "serving_default", {"x": np.ones((1, 3), np.float64)}),
                ("shapes", "serving_default", {"x": np.ones((1, 3, 1), np.float32)}),
                ("shapes", "serving_default", {"x": np.ones((0, 3), np.float32)}),
                ("shapes", "both", {"a": np.ones((2, 1), np.float32), "b": np.ones((1, 1), np.int32)}),
                ("shapes", "twice", {"x": np.ones((1, 3), np.float32)}),
            ]
        )
        message = predict_request(model, inputs, signature).SerializeToString()
        manner = chance.randrange(8)
        if manner == 0:
            return f"gRPC {self.send(message, timeout_s=0.001)[0]}"
        return f"gRPC {self.send(message[:-3] if manner == 1 else message)[0]}"


def run(server: ServerProcess, seconds: float, *, padded: bool, good: int = 12, bad: int = 6) -> Report:
    """Let good and bad clients, half over REST and half over gRPC, ask without a pause.

    Args:
        server: Server with the options `BATCHING`.
        seconds: Length of the run.
        padded: Whether the server pads, so that good requests have rows of different widths.
        good: Number of good clients.
        bad: Number of bad clients.
    """
    stop, lock = threading.Event(), threading.Lock()
    failed, statuses = collections.Counter[str](), collections.Counter[str]()
    crossed: list[str] = []
    asked_of = [0] * good

    def behave(index: int, client: Any, chance: random.Random) -> None:
        # Whole numbers up to 2 ** 24 are exact in float32, and this is the share of one client.
        tag = 1_000_000 * (index + 1) + 3 * (asked_of[index] % 300_000)
        asked = question(chance, tag, padded=padded)
        status, outputs = client.ask(asked)
        asked_of[index] += 1
        if status not in ("200", "OK"):
            with lock:
                failed[f"{status} {outputs}"] += 1
        elif not is_right(asked, outputs) and len(crossed) < 10:
            crossed.append(f"{asked} {outputs}")

    def misbehave(_index: int, client: Any, chance: random.Random) -> None:
        status = client.misbehave(chance)
        with lock:
            statuses[status] += 1

    def repeat(step: Callable[[int, Any, random.Random], None], index: int) -> None:
        chance = random.Random(index)
        with contextlib.closing((RestClient if index % 2 else GrpcClient)(server)) as client:
            while not stop.is_set():
                step(index, client, chance)

    threads = [threading.Thread(target=repeat, args=(behave, index)) for index in range(good)]
    threads += [threading.Thread(target=repeat, args=(misbehave, index)) for index in range(bad)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return Report(sum(asked_of), dict(failed), crossed, dict(statuses))
