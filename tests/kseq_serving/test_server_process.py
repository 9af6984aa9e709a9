"""Start and end of the server process."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import classification_pb2

from tests.kseq_serving.clients import ServerProcess, publish
from tests.kseq_serving.faults import METRICS, wait_in_flight
from tests.kseq_serving.test_server import grpc_error, predict_request

pytestmark = pytest.mark.server

Start = Callable[..., ServerProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Function that starts a server, which is stopped at the end of the test."""
    started: list[ServerProcess] = []

    def start(*flags: str, **ports: int) -> ServerProcess:
        started.append(ServerProcess(tmp_path / f"log{len(started)}", *flags, **ports))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        server.process.stdout.close()


def one_model(path: Path, *flags: str) -> list[str]:
    return ["--model_name=m", f"--model_base_path={path}", "--load_retry_interval_micros=100000", *flags]


def failure(server: ServerProcess) -> tuple[int, str]:
    output, _ = server.process.communicate(timeout=60)
    return server.process.returncode, output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_requests_in_progress(start: Start, models: Path, tmp_path: Path, number: int):
    """New requests on open connections are refused meanwhile."""
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text(METRICS)
    server = start(*one_model(models / "toy", f"--monitoring_config_file={monitoring}")).wait_ready()
    with ThreadPoolExecutor(2) as pool, contextlib.closing(server.connection()) as idle:
        idle.connect()
        slow = {"signature_name": "slow", "instances": [400]}
        over_rest = pool.submit(server.rest, "POST", "/v1/models/m:predict", slow)
        over_grpc = pool.submit(server.predict, predict_request("m", {"n": [400]}, "slow"))
        wait_in_flight(server, 2)
        server.process.send_signal(number)
        server.wait_log("Stopping")
        idle.request("GET", "/v1/models/m")
        refused = idle.getresponse()
        assert (refused.status, refused.read()) == (503, b'{\n    "error": "The server is stopping."\n}')
        assert grpc_error(server, predict_request("m", {"x": [1.0]}))[0] == "UNAVAILABLE"
        assert over_rest.result() == (200, {"predictions": [400]})
        assert over_grpc.result().outputs["n"].int_val == [400]
    assert server.process.wait(10) == 0


def test_a_run_that_does_not_end_cannot_keep_it(start: Start, models: Path):
    server = start(*one_model(models / "toy")).wait_ready()
    with ThreadPoolExecutor(1) as pool:
        endless = pool.submit(server.predict, predict_request("m", {"n": [10_000_000]}, "slow"))
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0
        assert isinstance(endless.exception(), grpc.RpcError)


def test_it_waits_for_a_missing_folder_and_says_so(start: Start, models: Path, tmp_path: Path):
    base = tmp_path / "later"
    server = start(*one_model(base))
    log = server.wait_log("Nothing to serve")
    assert f"the base path {base} of model m cannot be read (No such file or directory)" in log
    assert f"{base}/1/saved_model.pb" in log

    base.mkdir()
    publish(models / "versioned" / "1", base / "1")
    server.wait_ready()
    assert server.rest("POST", "/v1/models/m:predict", {"instances": [1.0]}) == (200, {"predictions": [11.0]})


def test_a_signal_ends_it_while_it_waits(start: Start, tmp_path: Path):
    server = start(*one_model(tmp_path / "never"))
    server.wait_log("Nothing to serve")
    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_while_it_imports_tensorflow(start: Start, models: Path, number: int):
    server = start(*one_model(models / "toy"))
    server.wait_log(".cc:")  # a first line of TensorFlow
    time.sleep(0.3)  # an import of jax or keras follows, in which a KeyboardInterrupt may be lost
    server.process.send_signal(number)
    assert server.process.wait(3) == 0
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(("level", "logged"), [(None, False), ("1", True)])
def test_requests_that_an_op_refuses_are_not_logged_unless_the_environment_says_so(
    start: Start, models: Path, monkeypatch: pytest.MonkeyPatch, level: str | None, logged: bool
):
    """TensorFlow's warning about each of them holds text of the client: with it, clients could fill the disk."""
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    if level:
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
    server = start(*one_model(models / "examples")).wait_ready()
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "m", "classify"
    request.input.example_list.examples.add()
    before = server.log.stat().st_size
    for _ in range(3):
        with pytest.raises(grpc.RpcError, match="could not be found"):
            server.call("Classify", request)
    assert (server.log.stat().st_size > before) == logged


def test_a_server_without_models_does_not_start(start: Start):
    assert failure(start()) == (
        255,
        "Failed to start server. Error: INVALID_ARGUMENT: Both server_options.model_base_path and "
        "server_options.model_config_file are empty!\n",
    )


@pytest.mark.parametrize("missing", ["models", "batching", "session"])
def test_a_missing_file_is_told_by_its_code(start: Start, models: Path, tmp_path: Path, missing: str):
    """Of several missing files, the first one in TensorFlow Serving's order."""
    flags = {
        "models": f"--model_config_file={tmp_path}/models",
        "batching": f"--batching_parameters_file={tmp_path}/batching",
        "session": f"--tensorflow_session_config_file={tmp_path}/session",
    }
    given = [*flags.values()][[*flags].index(missing) :]
    server = start(*one_model(models / "toy"), "--enable_batching=true", *given)
    assert failure(server) == (
        255,
        f"Failed to start server. Error: NOT_FOUND: {tmp_path}/{missing}; No such file or directory\n",
    )
