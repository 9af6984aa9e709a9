"""Tests of several processes that share the ports."""

import errno
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import model_management_pb2

from kseq_serving import ports, processes
from kseq_serving.errors import ServingError
from kseq_serving.flags import Flags
from tests.kseq_serving.clients import ServerProcess, wait_for
from tests.kseq_serving.ports import free_port

METRICS = "/monitoring/prometheus/metrics"


def one_model(path: Path, *flags: str) -> list[str]:
    return ["--model_name=toy", f"--model_base_path={path}", "--max_num_load_retries=0", *flags]


def serving(server: ServerProcess) -> list[int]:
    """Return the ids of the processes that serve, in the order of their start."""
    text = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(process) for process in text.split()]


def is_alive(process: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.fixture
def server(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "monitoring").write_text("prometheus_config { enable: true }")
    flags = ("--num_processes=2", f"--monitoring_config_file={tmp_path / 'monitoring'}")
    server = ServerProcess(tmp_path / "log", *one_model(models / "toy", *flags))
    try:
        yield server.wait_ready(2)
    finally:
        server.stop()


def ask(server: ServerProcess, times: int) -> None:
    """Send requests, each on its own connection."""
    for _ in range(times):
        assert server.rest("POST", "/v1/models/toy:predict", {"inputs": {"x": [1.0]}})[0] == 200


def count(server: ServerProcess) -> int:
    status, text = server.rest("GET", METRICS)
    assert status == 200
    return sum(map(int, re.findall(rb'request_count{model_name="toy",status="OK"} (\d+)', text)))


@pytest.mark.server
def test_both_answer_and_count_together_and_a_killed_one_is_started_again(server):
    first, second = serving(server)
    ask(server, 40)
    assert {count(server) for _ in range(10)} == {40}  # whichever process is asked
    os.kill(first, signal.SIGKILL)
    server.wait_log("Process 0 was ended by SIGKILL; starting it again.")
    ask(server, 10)
    assert 10 < count(server) < 50  # each had a share of the 40, but for one case in 10^11
    server.wait_ready(3)
    assert second in serving(server)
    assert len(serving(server)) == 2
    ask(server, 10)


@pytest.mark.server
def test_a_stop_ends_all_and_leaves_nothing_behind(server, tmp_path):
    both = serving(server)
    (folder,) = tmp_path.glob("kseq-serve-*")
    assert sorted(path.name for path in folder.iterdir()) == ["metrics-0", "metrics-1"]
    assert server.stop() == 0
    assert not any(is_alive(process) for process in both)
    assert not folder.exists()


@pytest.mark.server
@pytest.mark.long
def test_one_that_ends_by_itself_ends_all(server):
    first, second = serving(server)
    os.kill(first, signal.SIGTERM)
    assert server.process.wait(20) == 0
    assert not is_alive(second)


@pytest.mark.server
def test_if_the_parent_is_killed_the_others_end(server):
    both = serving(server)
    server.process.kill()
    wait_for(lambda: not any(is_alive(process) for process in both))


def test_a_process_that_cannot_be_started_is_tried_again(monkeypatch, tmp_path, capsys):
    answers = iter([OSError(errno.EAGAIN, "no memory"), OSError(errno.EAGAIN, "no memory"), 1234])

    def fork() -> int:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(processes, "RESTART_S", 0.0)
    several = processes._Processes(1, os._exit, tmp_path)
    several._start(0)
    assert several._running == {1234: 0}
    assert capsys.readouterr().err == "Process 0 cannot be started: no memory\n" * 2
    several._running.clear()
    several._stop()
    several._start(0)
    assert not several._running
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_second_server_that_starts_at_the_same_time_is_refused():
    """Neither listens yet, so the ports are free."""
    other = Flags(port=free_port(), rest_api_port=free_port())
    for one in (Flags(port=other.port), Flags(port=1, rest_api_port=other.rest_api_port)):
        with ports.kept(one), pytest.raises(ServingError, match="Address already in use"), ports.kept(other):
            pass
        with ports.kept(other):  # nothing is left of the one that was refused
            pass


@pytest.mark.server
def test_nobody_else_gets_the_ports_and_no_reload_reaches_one_process_alone(server, models, tmp_path):
    for port in ({"port": server.port}, {"rest_port": server.rest_port}):
        other = ServerProcess(tmp_path / "other", *one_model(models / "toy", "--num_processes=2"), **port)
        assert "Address already in use" in other.process.communicate(timeout=60)[0]
        assert other.process.returncode == 255
    with pytest.raises(grpc.RpcError) as refused:
        server.call("HandleReloadConfigRequest", model_management_pb2.ReloadConfigRequest())
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "reaches one of the 2 processes" in refused.value.details()


@pytest.mark.server
def test_a_configuration_that_is_not_there_ends_all(tmp_path):
    server = ServerProcess(tmp_path / "log", f"--model_config_file={tmp_path}/nothing", "--num_processes=2")
    output, _ = server.process.communicate(timeout=120)
    assert server.process.returncode == 255
    assert "Failed to start server. Error: " in output
