"""Conformance tests: each case of `cases/*.json` is a request with TensorFlow Serving's response.

By default they start `kseq-serve`. To test another server, start it twice with the flags that
`python -m tests.kseq_serving.conformance.setup FOLDER` prints, and set its addresses (gRPC, REST):

    KSEQ_CONFORMANCE_PLAIN=host:8500,host:8501 KSEQ_CONFORMANCE_BATCHING=host:9500,host:9501 \\
        python -m pytest tests/kseq_serving/conformance

Kinds of cases without an address are then skipped.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kseq_serving.clients import ServerProcess
from tests.kseq_serving.conformance import ask, setup

pytestmark = pytest.mark.server

KINDS = ("plain", "batching")
ASKS_ANOTHER = any(f"KSEQ_CONFORMANCE_{kind.upper()}" in os.environ for kind in KINDS)


def cases() -> list[Any]:
    return [
        pytest.param("batching" if path.stem == "batching" else "plain", case, id=f"{path.stem}: {case['name']}")
        for path in sorted((Path(__file__).parent / "cases").glob("*.json"))
        for case in json.loads(path.read_text(encoding="utf-8"))
    ]


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return setup.make(tmp_path_factory.mktemp("conformance"))


@pytest.fixture(scope="module")
def address_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable]:
    """Function that returns the server for a kind of case, and starts `kseq-serve` at its first call if needed."""
    started: dict[str, ServerProcess] = {}

    def find(kind: str) -> ask.Address:
        if ASKS_ANOTHER:
            given = os.environ.get(f"KSEQ_CONFORMANCE_{kind.upper()}")
            return ask.Address(*given.split(",")) if given else pytest.skip(f"no address of a {kind} server is given")
        if kind not in started:
            # Both start at the same time, since most of a start is the import of TensorFlow.
            for name, arguments in request.getfixturevalue("flags").items():
                started[name] = ServerProcess(tmp_path_factory.mktemp(name) / "log", *arguments)
        server = started[kind].wait_ready()
        return ask.Address(f"127.0.0.1:{server.port}", f"127.0.0.1:{server.rest_port}")

    yield find
    for server in started.values():
        server.stop()


@pytest.mark.parametrize(("kind", "case"), cases())
def test_case(address_of: Callable[[str], ask.Address], kind: str, case: dict[str, Any]):
    found = ask.answer(address_of(kind), case)
    assert ask.comparable(found) == ask.comparable(ask.expected(case))
