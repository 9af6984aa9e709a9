"""Server load and fault tests; `benchmarks/serving_faults.py` runs the same for longer."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from tests.kseq_serving import faults
from tests.kseq_serving.clients import ServerProcess, publish
from tests.kseq_serving.faults import Load
from tests.kseq_serving.test_server import predict_request

pytestmark = pytest.mark.server

MAX_GROWTH_MIB = 8.0
ONE_THREAD = ("--grpc_max_threads=1", "--rest_api_num_threads=1")
SMALL_BATCHES = """
max_batch_size { value: 1 }
max_enqueued_batches { value: 2 }
num_batch_threads { value: 1 }
"""


class Servers(NamedTuple):
    """Three servers: one watches a configuration file, one has one thread per protocol, one has small batches."""

    watching: ServerProcess
    config: Path
    base: Path
    narrow: ServerProcess
    batching: ServerProcess


@pytest.fixture(scope="module")
def servers(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("faults")
    base, config, batching = folder / "m", folder / "models.config", folder / "batching.config"
    base.mkdir()
    publish(models / "versioned" / "1", base / "1")
    faults.write_config(config, {"m": base})
    narrow = folder / "narrow.config"
    faults.write_config(narrow, {"m": models / "versioned", "toy": models / "toy"})
    batching.write_text(SMALL_BATCHES)
    monitoring = folder / "monitoring.config"
    monitoring.write_text(faults.METRICS)
    flags = (
        (f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=1", "--max_num_load_retries=0"),
        (f"--model_config_file={narrow}", f"--monitoring_config_file={monitoring}", *ONE_THREAD),
        (f"--model_config_file={narrow}", "--enable_batching=true", f"--batching_parameters_file={batching}"),
    )
    # They start at the same time, since most of a start is the import of TensorFlow.
    started = [ServerProcess(folder / f"log{index}", *arguments) for index, arguments in enumerate(flags)]
    try:
        watching, one_thread, small_batches = (server.wait_ready() for server in started)
        yield Servers(watching, config, base, one_thread, small_batches)
    finally:
        for server in started:
            server.stop()


def test_no_request_fails_while_versions_come_and_go(servers: Servers, models: Path, tmp_path: Path):
    saved = faults.save_versions(tmp_path, (3, 4))
    with Load(servers.watching) as load:
        load.wait_for(20)
        faults.replace_versions(servers.watching, servers.base, [models / "versioned" / "2", *saved])
        load.wait_for(20)
    assert not load.failed
    values = {float(number) for answer in load.answers for number in re.findall(r"[0-9.]+", answer[2])}
    assert {11.0, 14.0} <= values <= {11.0, 12.0, 13.0, 14.0}


def test_no_request_fails_while_broken_versions_appear(servers: Servers, models: Path):
    with Load(servers.watching) as load:
        load.wait_for(20)
        faults.break_versions(servers.watching, servers.base, models / "versioned" / "2", 50)
        load.wait_for(20)
    assert not load.failed
    reasons = {
        s["version"]: s["status"]["error_code"]
        for s in servers.watching.rest("GET", "/v1/models/m")[1]["model_version_status"]
        if int(s["version"]) >= 50
    }
    assert reasons == {"50": "NOT_FOUND", "51": "DATA_LOSS", "52": "NOT_FOUND"}


def test_no_request_fails_while_the_configuration_is_reloaded(servers: Servers, models: Path):
    with Load(servers.watching) as load:
        load.wait_for(20)
        faults.reload_by_file(servers.watching, servers.config, {"m": servers.base}, models / "toy")
        load.wait_for(20)
    assert not load.failed
    with Load(servers.narrow, clients=2) as load:
        load.wait_for(20)
        served = {"m": models / "versioned", "toy": models / "toy"}
        faults.reload_by_request(servers.narrow, served, models / "toy")
        load.wait_for(20)
    assert not load.failed


def test_memory_stays_flat(servers: Servers):
    with Load(servers.watching) as load:
        load.wait_for(1000)
        before, _ = faults.memory_mib(servers.watching)
        load.wait_for(2000)
        after, _ = faults.memory_mib(servers.watching)
    assert not load.failed
    assert after - before < MAX_GROWTH_MIB


def test_overload_is_refused_and_ends(servers: Servers):
    """The only thread is busy and 64 calls may wait, so the rest of 100 calls is refused."""
    quick, long = (predict_request("toy", {"n": [n]}, "slow") for n in (0, 400))
    body = json.dumps({"signature_name": "slow", "instances": [0]}).encode()
    path, server = "/v1/models/toy:predict", servers.narrow
    with server.channel() as channel:
        held = PredictionServiceStub(channel).Predict.future(long, timeout=30)
        faults.wait_in_flight(server, 1)
        over_grpc = faults.flood_grpc(server, quick, 100)
        assert held.result().outputs["n"].int_val == [400]
    assert over_grpc == {"OK": 64, "RESOURCE_EXHAUSTED": 36}
    with ThreadPoolExecutor(1) as pool:
        # Half a second or more, so that it still runs during the flood.
        held = pool.submit(server.rest_bytes, path, body.replace(b"[0]", b"[1000]"))
        time.sleep(0.2)  # the metrics cannot be asked, since they need the same thread
        over_rest = faults.flood_rest(server, path, body, 100)
        assert held.result()[0] == 200
    assert over_rest.keys() == {"200", "429"}
    assert over_rest["200"] >= 64
    assert server.predict(quick).outputs["n"].int_val == [0]
    assert server.rest_bytes(path, body)[0] == 200


def test_a_full_queue_of_batches_is_said_and_ends(servers: Servers):
    slow = predict_request("toy", {"n": [2]}, "slow")
    body = json.dumps({"signature_name": "slow", "instances": [2]}).encode()
    assert faults.flood_grpc(servers.batching, slow, 30).keys() == {"OK", "UNAVAILABLE"}
    assert faults.flood_rest(servers.batching, "/v1/models/toy:predict", body, 30).keys() == {"200", "503"}
    assert servers.batching.predict(slow).outputs["n"].int_val == [2]
