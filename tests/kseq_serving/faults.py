"""Load on a server and faults during it, for `test_faults.py` and `benchmarks/serving_faults.py`.

The server serves a model `m` of `toy_models.save_version`, whose answer to 1.0 depends on the version.
"""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.apis import model_management_pb2, predict_pb2, prediction_service_pb2_grpc

from tests.kseq_serving import toy_models
from tests.kseq_serving.clients import ServerProcess, publish
from tests.kseq_serving.test_server import predict_request

MODEL = "m"
PATH = f"/v1/models/{MODEL}:predict"
REST_BODY = json.dumps({"instances": [1.0]}).encode()
METRICS_PATH = "/monitoring/prometheus/metrics"
METRICS = "prometheus_config { enable: true }"
TIMEOUT_S = 30.0
OK = ("200", "OK")

Answer = tuple[str, str, str]
"""Protocol, status and text of a response."""


class Load:
    """Clients, half over REST and half over gRPC, that send requests without a pause until the `with` block ends.

    Each client keeps its connection, and makes a new one if it breaks.

    Args:
        server: Server to send the requests to.
        clients: Number of clients.
    """

    def __init__(self, server: ServerProcess, clients: int = 4):
        self._server = server
        self._stop = threading.Event()
        self._counts: list[collections.Counter[Answer]] = []
        self._threads = [
            threading.Thread(target=self._ask, args=(self._rest if index % 2 else self._grpc,))
            for index in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def answers(self) -> collections.Counter[Answer]:
        """Number of times that each answer came until now."""
        return sum((counts.copy() for counts in self._counts), collections.Counter())

    @property
    def failed(self) -> dict[Answer, int]:
        """Answers that were not a success, with their numbers."""
        return {answer: count for answer, count in self.answers.items() if answer[1] not in OK}

    def wait_for(self, count: int) -> None:
        """Wait until `count` more answers have come."""
        end, deadline = self.answers.total() + count, time.monotonic() + TIMEOUT_S + count / 50
        while self.answers.total() < end:
            assert time.monotonic() < deadline, self.answers
            time.sleep(0.01)

    def _ask(self, connect: Any) -> None:
        counts: collections.Counter[Answer] = collections.Counter()
        self._counts.append(counts)
        while not self._stop.is_set():
            with connect() as ask:
                while not self._stop.is_set():
                    answer = ask()
                    counts[answer] += 1
                    if answer[1] not in OK:
                        time.sleep(0.01)
                        break

    @contextlib.contextmanager
    def _rest(self) -> Iterator[Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.rest_port, timeout=TIMEOUT_S)

        def ask() -> Answer:
            try:
                connection.request("POST", PATH, REST_BODY)
                response = connection.getresponse()
                return "REST", str(response.status), " ".join(response.read().decode().split())
            except (OSError, http.client.HTTPException) as error:
                return "REST", type(error).__name__, ""

        with contextlib.closing(connection):
            yield ask

    @contextlib.contextmanager
    def _grpc(self) -> Iterator[Any]:
        request = predict_request(MODEL, {"x": [1.0]})
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{self._server.port}", options) as channel:
            predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict

            def ask() -> Answer:
                try:
                    return "gRPC", "OK", str(list(predict(request, timeout=TIMEOUT_S).outputs["y"].float_val))
                except grpc.RpcError as error:
                    return "gRPC", error.code().name, error.details()

            yield ask


def states(server: ServerProcess, model: str = MODEL) -> dict[str, str]:
    """Return the state of each version that the server knows of."""
    status, answer = server.rest("GET", f"/v1/models/{model}")
    return {s["version"]: s["state"] for s in answer["model_version_status"]} if status == 200 else {}


def wait_state(server: ServerProcess, version: int, state: str, model: str = MODEL) -> None:
    """Wait until a version is in a state."""
    deadline = time.monotonic() + TIMEOUT_S
    while (found := states(server, model)).get(str(version)) != state:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def save_versions(folder: Path, versions: Sequence[int]) -> list[Path]:
    """Save versions of the model, and return their folders, which `publish` copies."""
    for version in versions:
        toy_models.save_version(folder / str(version), version)
    return [folder / str(version) for version in versions]


def replace_versions(server: ServerProcess, base: Path, saved: Sequence[Path]) -> None:
    """Publish new versions one after another, each in place of the one before."""
    for source in saved:
        old = [path for path in base.iterdir() if path.name.isdecimal()]
        publish(source, base / source.name)
        wait_state(server, int(source.name), "AVAILABLE")
        for path in old:
            wait_state(server, int(path.name), "END")
            shutil.rmtree(path)


def break_versions(server: ServerProcess, base: Path, good: Path, first: int) -> None:
    """Publish three versions that cannot be loaded, each for another reason, made from the `good` one."""
    without_graph, half_a_graph, empty = first, first + 1, first + 2
    for version in (without_graph, half_a_graph, empty):
        broken = base / f"{version}.partial"
        shutil.copytree(good, broken)
        graph = broken / "saved_model.pb"
        if version == without_graph:
            graph.unlink()
        else:
            graph.write_bytes(graph.read_bytes()[: -100 if version == half_a_graph else 0])
        broken.rename(base / str(version))
        wait_state(server, version, "END")
        shutil.rmtree(base / str(version))


def write_config(path: Path, models: Mapping[str, Path]) -> None:
    """Write a configuration file of these models, complete from the moment that it appears."""
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" }}\n'
        for name, base in models.items()
    )
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(f"model_config_list {{\n{entries}}}\n")
    partial.rename(path)


def reload_by_file(server: ServerProcess, config: Path, models: Mapping[str, Path], more: Path) -> None:
    """Add a model to the configuration file that the server watches, and remove it again."""
    write_config(config, {**models, "more": more})
    wait_state(server, 1, "AVAILABLE", "more")
    write_config(config, models)
    wait_state(server, 1, "END", "more")


def reload_by_request(server: ServerProcess, models: Mapping[str, Path], more: Path) -> None:
    """Add a model by a reload request, and remove it again."""
    for listed in ({**models, "more": more}, models):
        request = model_management_pb2.ReloadConfigRequest()
        for name, base in listed.items():
            request.config.model_config_list.config.add(name=name, base_path=str(base), model_platform="tensorflow")
        server.call("HandleReloadConfigRequest", request)
    wait_state(server, 1, "END", "more")


def wait_in_flight(server: ServerProcess, count: int) -> None:
    """Wait until `count` requests are in flight; the server must serve its metrics."""
    deadline = time.monotonic() + TIMEOUT_S
    while f":kseq:requests_in_flight{{}} {count}\n".encode() not in server.rest("GET", METRICS_PATH)[1]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def flood_grpc(server: ServerProcess, request: predict_pb2.PredictRequest, count: int) -> collections.Counter[str]:
    """Send `count` calls at once, and return the number of times that each status came."""
    with server.channel() as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        calls = [predict.future(request, timeout=TIMEOUT_S) for _ in range(count)]
        return collections.Counter(call.code().name for call in calls)


def flood_rest(server: ServerProcess, path: str, body: bytes, count: int) -> collections.Counter[str]:
    """Send `count` requests at once, each over its own connection; return how often each status came."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.rest_port), TIMEOUT_S))
            for _ in range(count)
        ]
        for connection in connections:
            connection.sendall(head.encode() + body)
        return collections.Counter(_status(connection) for connection in connections)


def _status(connection: socket.socket) -> str:
    received = b""
    while chunk := connection.recv(4096):
        received += chunk
    return received.split(b" ", 2)[1].decode() if b" " in received else "closed"


def memory_mib(server: ServerProcess) -> tuple[float, float]:
    """Return the server's resident memory now and at its peak, in MiB."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return int(sizes["VmRSS"]) / 1024, int(sizes["VmHWM"]) / 1024
