"""Server process for tests, and simple clients for it."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.kseq_serving.ports import free_port

START_TIMEOUT_S = 180.0  # of several dozen models, on a slow machine
JSON_TYPE = "application/json"
KSEQ_SERVE = (sys.executable, "-m", "kseq_serving.main")


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true, which it must become within 30 seconds."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def publish(source: Path, target: Path) -> None:
    """Copy a version folder under another name, then rename it, so that it appears complete."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.copytree(source, partial)
    partial.rename(target)


class ServerProcess:
    """Process of `kseq-serve`, or of another command, on free ports; its standard error is written to a file."""

    def __init__(
        self,
        log: Path,
        *flags: str,
        port: int | None = None,
        rest_port: int | None = None,
        command: Sequence[str] = KSEQ_SERVE,
    ):
        self.port, self.rest_port = port or free_port(), rest_port or free_port()
        self.log = log
        arguments = [*command, f"--port={self.port}", f"--rest_api_port={self.rest_port}", *flags]
        # The server inherits neither pytest's warning filters nor a GPU.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"} | {"CUDA_VISIBLE_DEVICES": ""}
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                arguments, stdout=subprocess.PIPE, stderr=stderr, env=environment, text=True
            )

    def wait_ready(self, times: int = 1) -> "ServerProcess":
        """Wait until the ports were opened, by so many processes."""
        self.wait_log("Exporting HTTP/REST API at:localhost:", times)
        return self

    def wait_log(self, text: str, times: int = 1) -> str:
        """Wait until the server's log contains `text`, so many times, and return the log."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while (log := self.log.read_text(errors="replace")).count(text) < times:
            assert self.process.poll() is None, f"the server left with {self.process.returncode}:\n{log}"
            assert time.monotonic() < deadline, f"no {text!r} in:\n{log}"
            time.sleep(0.05)
        return log

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self.process.stdout.close()
        return code

    def rest(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Send a request; return the status and the body of the response, parsed if it is JSON.

        A `body` of bytes is sent as it is, any other as JSON.
        """
        connection = self.connection()
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if response.getheader("Content-Type") == JSON_TYPE else text
        finally:
            connection.close()

    def rest_bytes(self, path: str, body: bytes) -> tuple[int, bytes]:
        connection = self.connection()
        try:
            connection.request("POST", path, body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=30)

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(f"127.0.0.1:{self.port}")

    def predict(self, request: predict_pb2.PredictRequest, timeout_s: float | None = 30) -> predict_pb2.PredictResponse:
        with self.channel() as channel:
            return prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=timeout_s)

    def call(self, method: str, request: Any) -> Any:
        """Call a method of either service by its name."""
        with self.channel() as channel:
            stubs = (
                prediction_service_pb2_grpc.PredictionServiceStub(channel),
                model_service_pb2_grpc.ModelServiceStub(channel),
            )
            stub = next(stub for stub in stubs if hasattr(stub, method))
            return getattr(stub, method)(request, timeout=30)
