"""Fuzz tests with hypothesis: nearly right JSON, messages, configuration files and bytes of HTTP.

What a client sends is answered as an error of the client, without 5xx and without a record in the log; a file is read
or refused. The quick suite tries a few inputs, the tests marked `slow` 100,000 of each kind in flat memory.
"""

import contextlib
import logging
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from kseq_serving.batching import batching_options
from kseq_serving.budget import Budget, Share
from kseq_serving.core import ServerCore
from kseq_serving.errors import Code, InvalidArgumentError, ServingError
from kseq_serving.flags import Flags
from kseq_serving.grpc_service import METHODS, Services
from kseq_serving.models import model_config
from kseq_serving.protocol import protos
from kseq_serving.protocol.protos import ConfigProto
from kseq_serving.rest.api import HttpRequest, RestApi
from kseq_serving.workers import Workers
from tests.kseq_serving import fuzzing
from tests.kseq_serving.clients import ServerProcess
from tests.kseq_serving.test_fuzz_sockets import AT_ONCE, PREDICT, complaints, exchange, statuses
from tests.kseq_serving.test_fuzz_sockets import METHODS as KNOWN_METHODS

MANY = 100_000
MAX_GROWTH_MIB = 48.0
CLIENT_CODES = {
    Code.OK,
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.FAILED_PRECONDITION,
    Code.RESOURCE_EXHAUSTED,
    Code.UNIMPLEMENTED,
}


def inputs(few: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("count", [few, pytest.param(MANY, marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def core(models: Path) -> Iterator[ServerCore]:
    core = ServerCore(Flags(max_num_load_retries=0), ConfigProto())
    core.start(model_config.single_model("toy", str(models / "toy")))
    yield core
    core.stop(1.0)


@pytest.fixture
def complaining() -> Iterator[fuzzing.Complaints]:
    complaints = fuzzing.Complaints()
    logging.getLogger().addHandler(complaints)
    yield complaints
    logging.getLogger().removeHandler(complaints)


def run_flat(strategy: st.SearchStrategy[Any], check: Callable[[Any], None], count: int) -> None:
    """Check inputs; of many, the memory in use after the first tenth must be that at the end."""
    first = count // 10 if count == MANY else 0
    fuzzing.run(strategy, check, first)
    begun = fuzzing.returned_to_the_system()[1]
    fuzzing.run(strategy, check, count - first)
    kept, used = fuzzing.returned_to_the_system()
    peak = fuzzing.resident_mib()[1]
    if count == MANY:
        print(
            f"{count} inputs; in use after a tenth {begun:.0f} MiB, at the end {used:.0f}; the allocator kept "
            f"{kept - used:.0f} more; peak {peak:.0f}"
        )
        assert used - begun < MAX_GROWTH_MIB


@pytest.mark.long
@inputs(20)
def test_json(core: ServerCore, complaining: fuzzing.Complaints, count: int):
    api, seen = RestApi(core), Counter[int]()

    def check(body: bytes) -> None:
        for verb in ("predict", "classify") if len(body) % 4 == 0 else ("predict",):
            status = api.answer(HttpRequest("POST", f"/v1/models/toy:{verb}", body)).status
            assert status in (200, 400, 404), (status, body)
            seen[status] += 1

    run_flat(fuzzing.JSON_BODIES, check, count)
    assert seen[200] or count < 1000  # few inputs may all be refused
    assert seen[400]
    assert complaining.records == []


@pytest.mark.long
@inputs(40)
def test_messages(core: ServerCore, complaining: fuzzing.Complaints, count: int):
    services, seen = Services(core, Workers(1, name="fuzz")), Counter[Code]()
    methods = [method for path, method in METHODS.items() if "Reload" not in path]

    def check(data: bytes) -> None:
        for method in {METHODS[PREDICT], methods[zlib.crc32(data) % len(methods)]}:
            answer = services._answer(method, data, math.inf, Share(Budget(2**31, "Messages")))
            code = answer.code if isinstance(answer, ServingError) else Code.OK
            if code is Code.INTERNAL:  # what is no message gets this code and no text, by the gRPC library there
                assert isinstance(answer, ServingError)
                assert answer.message == "", answer
            else:
                assert code in CLIENT_CODES, (code, method, data)
            seen[code] += 1

    run_flat(fuzzing.MESSAGES, check, count)
    assert seen[Code.OK] or count < 1000
    assert seen[Code.INVALID_ARGUMENT]
    assert complaining.records == []


@pytest.mark.long
@inputs(150)
def test_configuration_files(tmp_path: Path, count: int):
    path, read = tmp_path / "file.config", Counter[str]()

    def check(data: bytes) -> None:
        path.write_bytes(data or b"#")
        for kind in (protos.ModelServerConfig, protos.BatchingParameters, protos.MonitoringConfig, protos.SSLConfig):
            with contextlib.suppress(InvalidArgumentError):
                message = model_config.read_text_proto(str(path), kind())
                if isinstance(message, protos.BatchingParameters):
                    batching_options.options(message)
                elif isinstance(message, protos.ModelServerConfig):
                    models = list(message.model_config_list.config)
                    model_config.validate(models)
                    model_config.check_platforms(models)
                read[kind.__name__] += 1

    run_flat(fuzzing.CONFIG_FILES, check, count)
    assert read["ModelServerConfig"]
    assert read["BatchingParameters"]


@pytest.mark.server
@inputs(200)
def test_http(server: ServerProcess, count: int):
    seen = Counter[int]()

    def check(requests: list[bytes]) -> None:
        for data, answer in zip(requests, exchange(server, requests), strict=True):
            first_words = {part.split(b" ")[0] for part in data.split(b"\r\n\r\n")}
            for status in statuses(answer):
                # What is no method gets 501, as there; a body whose length was lost is read as the next request.
                unknown_method = status in (501, 505) and (not first_words <= KNOWN_METHODS or b"HTTP/1." not in data)
                assert status < 500 or unknown_method, f"{data!r}\n{answer!r}"
                seen[status] += 1

    batches = st.lists(fuzzing.HTTP_BYTES, min_size=AT_ONCE, max_size=AT_ONCE)
    fuzzing.run(batches, check, count // AT_ONCE // 10)
    begun = fuzzing.resident_mib(server.process.pid)[0]
    fuzzing.run(batches, check, count // AT_ONCE)
    now, peak = fuzzing.resident_mib(server.process.pid)
    print(f"{count} requests; the server holds {begun:.0f} MiB after a tenth, {now:.0f} at the end; peak {peak:.0f}")
    assert now - begun < MAX_GROWTH_MIB
    assert seen[400]
    assert server.rest("POST", "/v1/models/toy:predict", {"instances": [1.0]}) == (200, {"predictions": [2.5]})
    assert complaints(server) == []
