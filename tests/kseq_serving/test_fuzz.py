"""Fuzz tests: malformed requests are answered as errors of the client, without 5xx, exceptions or hangs.

A seeded generator changes, cuts out, repeats and swaps bytes of valid requests. `KSEQ_FUZZ_INPUTS` sets the number of
inputs per test.
"""

import contextlib
import itertools
import os
import random
import re
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError

from kseq_serving.core import ServerCore
from kseq_serving.errors import Code, NotFoundError, ServingError
from kseq_serving.flags import Flags
from kseq_serving.grpc_service import answer_predict
from kseq_serving.handlers import examples as examples_handler
from kseq_serving.models import model_config
from kseq_serving.protocol import protos
from kseq_serving.protocol.protos import ConfigProto
from kseq_serving.rest.api import HttpRequest, RestApi

INPUTS = int(os.environ.get("KSEQ_FUZZ_INPUTS", "4000"))
BODIES = [
    b'{"instances": [1.0, 2.5e3, -3]}',
    b'{"signature_name": "pair", "instances": [{"a": 1, "b": 2}, {"b": 3, "a": 4}]}',
    b'{"signature_name": "upper", "inputs": {"text": ["\\u00e9", {"b64": "YWJj"}]}}',
    b'{"inputs": [[[1], [2]], [[3], [NaN]]]}',
    b'{"signature_name": "echo", "examples": [{"x": [1, 2], "y": "a"}], "context": {"z": true}}',
]
PATHS = [
    "/v1/models/toy:predict",
    "/v1/models/toy/versions/1:predict",
    "/v1/models/toy/labels/x:classify",
    "/v1/models/toy:regress",
    "/v1/models/toy/metadata",
    "/v1/models/%74oy",
]
OUTSIDE = ["/v1/models/../../etc/passwd:predict", "/v1/models/%2e%2e%2f%2e%2e%2fetc", "/v1/models//etc/metadata"]
PIECES = (b'"', b"{", b"}", b"[", b"]", b",", b"\\", b"\xff", b"\0", b"9" * 40, b"1e999", b"null", b":", b"/", b"%")


@pytest.fixture(scope="module")
def core(models: Path) -> Iterator[ServerCore]:
    core = ServerCore(Flags(max_num_load_retries=0), ConfigProto())
    core.start(model_config.single_model("toy", str(models / "toy")))
    yield core
    core.stop(1.0)


class FileAccesses:
    """Record of the file operations of this thread while it is watched, from Python's audit events."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple]] = []
        self._thread: int | None = None
        sys.addaudithook(self._hook)  # Python cannot remove a hook

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        self.seen, self._thread = [], threading.get_ident()
        try:
            yield
        finally:
            self._thread = None

    def _hook(self, event: str, arguments: tuple) -> None:
        if self._thread is None:  # also when Python ends, and its modules are gone
            return
        if self._thread == threading.get_ident() and (event == "open" or event.startswith(("os.", "shutil.", "glob."))):
            self.seen.append((event, arguments))


@pytest.fixture(scope="module")
def file_accesses() -> FileAccesses:
    return FileAccesses()


def mutate(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(data))
        end = min(len(data), start + chance.randint(0, 8))
        middle = chance.choice(
            (b"", data[start:end] * chance.randint(2, 40), chance.choice(PIECES), bytes([chance.randrange(256)]))
        )
        data = data[:start] + middle + data[end:]
    return data


def test_rest_bodies(core: ServerCore):
    api, chance, statuses = RestApi(core), random.Random(1), set()
    for _ in range(INPUTS):
        body = mutate(chance.choice(BODIES), chance)
        path = chance.choice(PATHS[:4])
        status = api.answer(HttpRequest("POST", path, body)).status
        assert status < 500, (path, body)
        statuses.add(status)
    assert statuses == {200, 400}


def test_rest_paths(core: ServerCore, file_accesses: FileAccesses):
    """No name but that of the one model is answered, and no name makes the server open a file."""
    api, chance = RestApi(core), random.Random(2)
    bodies = [BODIES[0], b'{"signature_name": "nope", "instances": [1]}', b"{"]
    for body in bodies:  # so that lazy imports do not open files later
        for path, method in itertools.product(PATHS, ("GET", "POST", "PUT", "OPTIONS")):
            api.answer(HttpRequest(method, path, body))
    statuses = set()
    with file_accesses.watched():
        for _ in range(INPUTS):
            path = mutate(chance.choice([*PATHS, *OUTSIDE]).encode(), chance).decode("latin-1")
            method = chance.choice(("GET", "POST", "DELETE"))
            status = api.answer(HttpRequest(method, path, chance.choice(bodies))).status
            statuses.add(status)
            named = urllib.parse.unquote(path).split("/", 3)[3:]
            assert status in ((200, 400, 404) if named and re.match(r"toy\b", named[0]) else (400, 404)), (method, path)
    assert statuses == {200, 400, 404}
    assert file_accesses.seen == []


def test_the_watch_over_files_sees_them(file_accesses: FileAccesses, tmp_path: Path):
    with file_accesses.watched():
        os.listdir(tmp_path)
        (tmp_path / "a").write_text("")
    assert [event for event, _ in file_accesses.seen] == ["os.listdir", "open"]


@pytest.mark.parametrize("path", ["../outside", "..%2foutside", "%2e%2e/outside", "{base}/outside", "toy/../outside"])
def test_a_model_beside_those_that_are_served_is_not_reached(core: ServerCore, models: Path, path: str):
    """A neighbouring folder holds a model that could be loaded, but is not configured."""
    name = path.format(base=models).replace("outside", "versioned")
    assert (models / "toy" / ".." / "versioned" / "1" / "saved_model.pb").is_file()
    for call in (
        HttpRequest("GET", f"/v1/models/{name}"),
        HttpRequest("POST", f"/v1/models/{name}:predict", BODIES[0]),
    ):
        assert RestApi(core).answer(call).status in (400, 404)
    request = protos.PredictRequest()
    request.model_spec.name = urllib.parse.unquote(name)
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
    with pytest.raises(NotFoundError):
        answer_predict(core, request)


def requests() -> list[tuple[Any, Any]]:
    plain = protos.PredictRequest()
    plain.model_spec.name = "toy"
    plain.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0]))
    text = protos.PredictRequest()
    text.model_spec.name, text.model_spec.signature_name = "toy", "upper"
    text.inputs["text"].CopyFrom(tf.make_tensor_proto(["a", "b"]))
    filled = protos.PredictRequest()
    filled.model_spec.name = "toy"
    filled.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
    filled.inputs["x"].tensor_shape.dim[0].size = 1000
    examples = protos.ClassificationRequest()
    examples.model_spec.name, examples.model_spec.signature_name = "toy", "echo"
    examples.input.example_list.examples.add().features.feature["x"].float_list.value.append(1.0)
    return [
        (answer_predict, plain),
        (answer_predict, text),
        (answer_predict, filled),
        (examples_handler.classify, examples),
    ]


@pytest.mark.long
def test_messages(core: ServerCore):
    chance, codes = random.Random(3), set()
    for _ in range(INPUTS):
        answer, message = chance.choice(requests())
        data = mutate(message.SerializeToString(), chance)
        try:
            request = type(message).FromString(data)
        except DecodeError:
            continue
        try:
            answer(core, request, timeout_s=10.0).SerializeToString()
            codes.add(Code.OK)
        except ServingError as error:
            codes.add(error.code)
    assert codes <= {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION}
    assert Code.OK in codes
