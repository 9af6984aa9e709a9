"""Deliberate differences from TensorFlow Serving (serving/README.md) that no other test covers."""

import threading
import time
from pathlib import Path

import pytest

from kseq_serving.core import ServerCore
from kseq_serving.errors import Code, ServingError
from kseq_serving.flags import Flags
from kseq_serving.grpc_service import answer_predict
from kseq_serving.models import model_config
from kseq_serving.models.lifecycle import State, StatusBoard
from kseq_serving.models.manager import VersionManager
from kseq_serving.protocol.protos import ConfigProto
from tests.kseq_serving.clients import ServerProcess, wait_for
from tests.kseq_serving.test_manager import FakeSession
from tests.kseq_serving.test_server import predict_request

pytestmark = pytest.mark.server


LISTENING = "0A"


def listens_at(port: int) -> set[str]:
    """Return the addresses of listening sockets on a port, as the kernel writes them (bytes in reverse order)."""
    entries = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = [local.split(":") for _, local, _, state, *_ in entries if state == LISTENING]
    return {address for address, number in sockets if int(number, 16) == port}


def test_rest_listens_on_this_machine_alone(server: ServerProcess):
    assert listens_at(server.rest_port) == {"0100007F"}  # 127.0.0.1
    assert listens_at(server.port) <= {"00000000"}  # gRPC listens on all; IPv6 sockets are in another file


def test_a_version_that_is_wanted_again_while_it_is_loaded_stays():
    session, gate, board = FakeSession(), threading.Event(), StatusBoard()

    def load(model: str, version: int, path: str) -> FakeSession:
        assert version == 1 or gate.wait(10)
        return session if version == 1 else FakeSession()

    manager = VersionManager(load, board, max_retries=0, retry_interval_s=0.0)  # pyright: ignore[reportArgumentType]
    manager.start()

    def states() -> dict[int, State]:
        return {version: status.state for version, status in board.versions("m").items()}

    try:
        manager.set_aspired("m", {1: ""})
        wait_for(lambda: states() == {1: State.AVAILABLE})
        manager.set_aspired("m", {2: ""})
        wait_for(lambda: states() == {1: State.AVAILABLE, 2: State.LOADING})
        manager.set_aspired("m", {1: ""})
        gate.set()
        wait_for(lambda: states() == {1: State.AVAILABLE, 2: State.END})
        assert not session.closed.is_set()
    finally:
        manager.stop(1.0)


def test_a_deadline_ends_the_run(models: Path):
    core = ServerCore(Flags(max_num_load_retries=0), ConfigProto())
    core.start(model_config.single_model("toy", str(models / "toy")))
    try:
        started = time.monotonic()
        with pytest.raises(ServingError) as caught:
            answer_predict(core, predict_request("toy", {"n": [100_000]}, "slow"), timeout_s=0.2)
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        assert time.monotonic() - started < 5.0  # the whole run would take minutes
    finally:
        core.stop(1.0)
