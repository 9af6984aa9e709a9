"""Large bodies of classify and regress, which another process converts, so that this one handles flat bytes alone."""

import json
import logging
import os
import pickle
from pathlib import Path

import pytest

from kseq_serving.errors import Code, InvalidArgumentError, ServingError
from kseq_serving.protocol.protos import Input
from kseq_serving.rest import json_examples, json_reader, json_request, json_worker
from kseq_serving.rest.api import HttpRequest, RestApi
from kseq_serving.rest.json_processes import JsonProcess, Parsing
from tests.kseq_serving.hostile.counting import lines_run
from tests.kseq_serving.hostile.test_large_json import ahead

pytestmark = pytest.mark.server
CLASSIFY = "/v1/models/toy:classify"
EXAMPLES = {
    "many": [{"x": [1, 2.5], "y": "a"}] * 2500,
    "whole lists": [{"x": [1, -(2**63)], "y": [2.5, 1e39], "z": ["a", "\u00e9"], "empty": []}, {}],
    "values of other forms": [{"x": [True, 1], "y": [2**64, 0.5], "z": [{"b64": "YWI="}, "a"]}],
    "none": [],
    "no list": 7,
    "no object": [[1]],
    "an object as an element": [{"x": {"y": 1}}],
    "two types": [{"x": [1, "a"]}],
    "two types, the second after many": [{"x": [1.5] * 5000 + [2]}],
    "an integer that is too large": [{"x": [1, 2**63]}],
    "no base64": [{"x": {"b64": "!"}}],
}


def pid(process: JsonProcess) -> int:
    assert process._process is not None
    return process._process.pid


@pytest.mark.parametrize("verb", ["classify", "regress"])
@pytest.mark.parametrize("context", [{}, {"context": {"z": "b"}}, {"context": {}}, {"context": 1}])
@pytest.mark.parametrize("examples", EXAMPLES.values(), ids=EXAMPLES)
def test_the_answer_is_the_same(api: RestApi, process: JsonProcess, verb: str, context: dict, examples: object):
    body = json.dumps({"signature_name": "echo", "examples": examples, **context}).encode()
    request = HttpRequest("POST", f"/v1/models/toy:{verb}", body)
    assert ahead(api, process, request) == api.answer(request)


@pytest.mark.parametrize(
    "body",
    [
        b'{"examples": [{"x": ' + b"[" * 505 + b"1" + b"]" * 505 + b"}]}",
        b'{"examples": [{"x": 1}], "z": ' + b"[" * 505 + b"1" + b"]" * 505 + b"}",
        b'{"z": ' + b'{"a":' * 505 + b"1" + b"}" * 506,
    ],
)
def test_a_deep_document_does_not_end_the_process(api: RestApi, process: JsonProcess, body: bytes):
    process.examples(b'{"examples": [{}]}', Parsing())
    before = pid(process)
    request = HttpRequest("POST", CLASSIFY, body)
    response = ahead(api, process, request)
    assert response.status == 400
    assert response == api.answer(request)
    assert pid(process) == before


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RecursionError("too deep"), Code.INVALID_ARGUMENT, "The JSON body is nested too deep."),
        (MemoryError(), Code.RESOURCE_EXHAUSTED, "The JSON body needs more than 6442450944 bytes of memory."),
        (InvalidArgumentError("a"), Code.INVALID_ARGUMENT, "a"),
        (TypeError("a" * 10_000), Code.INTERNAL, "TypeError: " + "a" * 1989),
    ],
)
def test_every_error_of_the_process_is_an_answer(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: Code, text: str
):
    def fail(body: bytes) -> None:
        raise error

    monkeypatch.setattr(json_request, "parse", fail)
    (header,) = json_worker.answer(json_worker.EXAMPLES, {}, b"{}")
    assert pickle.loads(header)["refused"] == (int(code), text)


def test_an_unexpected_error_is_logged_here_alone(process: JsonProcess, caplog: pytest.LogCaptureFixture):
    process.examples(b'{"examples": [{}]}', Parsing())
    before = pid(process)
    impossible = {"serving_default": {"x": []}}
    with caplog.at_level(logging.ERROR), pytest.raises(ServingError, match="TypeError") as caught:
        process.inputs(b'{"instances": [1]}', impossible, Parsing())  # pyright: ignore[reportArgumentType]
    assert caught.value.code is Code.INTERNAL
    (record,) = caplog.messages
    assert record.startswith("Parsing a JSON body failed unexpectedly: TypeError")
    assert pid(process) == before
    assert {os.readlink(f"/proc/{before}/fd/{number}") for number in (1, 2)} == {"/dev/null"}


def test_what_comes_back_is_flat_and_holds_nothing_that_is_not_read(
    process: JsonProcess, monkeypatch: pytest.MonkeyPatch
):
    sizes = []
    read = json_worker.read
    monkeypatch.setattr(json_worker, "read", lambda stream: sizes.append(len(blob := read(stream))) or blob)
    row = {"x": [1.5] * 10_000, "y": "a"}
    body = json.dumps({"examples": [row] * 3, "z": [[]] * 100_000, "context": {"c": 1}}).encode()
    parsed = process.examples(body, Parsing())
    header, *pieces = sizes
    assert header < 100
    assert sum(pieces) < 3 * 4 * 10_000 + 200  # four bytes for each float32
    merged = Input()
    for piece in parsed.pieces:
        merged.MergeFromString(piece)
    assert len(merged.example_list_with_context.examples) == 3
    assert merged.example_list_with_context.context.features.feature["c"].int64_list.value == [1]


def test_this_process_converts_nothing(api: RestApi, process: JsonProcess, monkeypatch: pytest.MonkeyPatch):
    body = json.dumps({"signature_name": "echo", "examples": [{"x": [1.5] * 100}] * 100}).encode()
    request = HttpRequest("POST", CLASSIFY, body)
    expected = api.answer(request)
    monkeypatch.setattr(json_reader, "parse", lambda body: pytest.fail("parsed here"))
    monkeypatch.setattr(json_examples, "read", lambda document: pytest.fail("converted here"))
    assert ahead(api, process, request) == expected


@pytest.mark.parametrize(("element", "most"), [(1.5, 100), (1, 100), ("a", 10_100)])
def test_a_long_list_is_converted_at_once(element: object, most: int):
    """One by one, each element would take some ten lines."""
    assert lines_run(lambda: json_examples.read({"examples": [{"x": [element] * 10_000}]})) < most


def test_the_process_does_not_load_tensorflow(process: JsonProcess):
    process.examples(b'{"examples": [{}]}', Parsing())
    assert "tensorflow" not in Path(f"/proc/{pid(process)}/maps").read_text()
