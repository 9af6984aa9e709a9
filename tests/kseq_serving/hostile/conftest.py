from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from kseq_serving.core import ServerCore
from kseq_serving.flags import Flags
from kseq_serving.models import model_config
from kseq_serving.protocol.protos import ConfigProto
from kseq_serving.rest.api import RestApi
from kseq_serving.rest.json_processes import JsonProcess
from tests.kseq_serving.conftest import Run, running


@pytest.fixture(scope="session")
def uvloop_run() -> Iterator[Run]:
    """Function that runs a coroutine on the event loop of the server, in another thread.

    It differs from asyncio's loop in when it begins to read, and in what it sends at once.
    """
    yield from running(uvloop.new_event_loop())


@pytest.fixture(scope="module")
def api(models: Path) -> Iterator[RestApi]:
    core = ServerCore(Flags(max_num_load_retries=0), ConfigProto())
    core.start(model_config.single_model("toy", str(models / "toy")))
    yield RestApi(core)
    core.stop(1.0)


@pytest.fixture(scope="module")
def process() -> Iterator[JsonProcess]:
    process = JsonProcess(60.0)
    yield process
    process.stop()
