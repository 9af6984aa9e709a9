"""Large JSON bodies, which another process parses, so that no other request waits for Python's lock."""

import json
import threading

import pytest

from kseq_serving.errors import Code, ServingError
from kseq_serving.flags import Flags
from kseq_serving.rest import hosts, json_reader
from kseq_serving.rest.api import HttpRequest, HttpResponse, RestApi
from kseq_serving.rest.json_processes import JsonProcess, Parsing

pytestmark = pytest.mark.server
PREDICT = "/v1/models/toy:predict"
BODIES = {
    "rows": b'{"instances": [1.0, 2.5, NaN, -3e10]}',
    "columns": b'{"inputs": [1, 2]}',
    "two inputs": b'{"signature_name": "pair", "instances": [{"a": 1, "b": 2}, {"b": 3, "a": 4}]}',
    "texts": b'{"signature_name": "upper", "inputs": ["\\u00e9\xff", {"b64": "YWJj"}, ""]}',
    "a scalar": b'{"inputs": 1.5}',
    "no values": b'{"inputs": [[], []]}',
    "no texts": b'{"signature_name": "upper", "inputs": []}',
    "wrong type": b'{"instances": ["a"]}',
    "wrong shape": b'{"instances": [[1], [1, 2]]}',
    "no rows": b'{"instances": []}',
    "neither key": b'{"a": 1}',
    "unknown signature": b'{"signature_name": "nope", "instances": ["a"]}',
    "signature of a wrong type": b'{"signature_name": 1, "instances": [1]}',
    "no object": b"[1]",
    "cut off": b'{"instances": [1.0, ',
    "empty": b" ",
    "deep": b'{"inputs": ' + b"[" * 70 + b"1" + b"]" * 70 + b"}",
    "a number that is too big": b'{"instances": [1e999]}',
}


def ahead(api: RestApi, process: JsonProcess, request: HttpRequest) -> HttpResponse:
    return api.answer(api.parse_ahead(request, process, Parsing()))


def signature_name(process: JsonProcess, name: str) -> str:
    """Send a name to the process, and return what comes back."""
    return process.inputs(json.dumps({"signature_name": name}).encode(), {}, Parsing()).signature_name


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_answer_is_the_same(api: RestApi, process: JsonProcess, body: bytes):
    request = HttpRequest("POST", PREDICT, body)
    assert ahead(api, process, request) == api.answer(request)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/models/unknown:predict", 404),
        ("POST", "/v1/models/toy/versions/9:predict", 404),
        ("POST", "/v1/models/toy/versions/99999999999999999999:predict", 400),
        ("POST", "/v1/models/toy/labels/none:predict", 400),
        ("POST", "/v1/models/toy:PREDICT", 400),
        ("POST", "/elsewhere", 404),
        ("GET", PREDICT, 400),
        ("FETCH", PREDICT, 501),
    ],
)
def test_what_is_refused_anyway_is_not_parsed(api: RestApi, method: str, path: str, status: int):
    process = JsonProcess(60.0)
    request = api.parse_ahead(HttpRequest(method, path, b"[" * 1000), process, Parsing())
    assert request.body == b""
    assert process._process is None
    assert api.answer(request).status == status


def test_a_body_under_a_strangers_name_is_not_parsed(api: RestApi, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(api, "_hosts", hosts.from_flags(Flags(enable_playground=True)))
    process = JsonProcess(60.0)
    body = b'{"instances": [1.0]}'
    request = api.parse_ahead(HttpRequest("POST", PREDICT, body, hosts=("evil.example",)), process, Parsing())
    assert request.body == b""
    assert process._process is None
    assert api.answer(request).status == 403


def test_this_process_parses_nothing(api: RestApi, process: JsonProcess, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(json_reader, "parse", lambda body: pytest.fail("parsed here"))
    body = b'{"signature_name": "upper", "instances": [' + b'"abc",' * 50_000 + b'"d"]}'
    response = ahead(api, process, HttpRequest("POST", PREDICT, body))
    assert response.status == 200
    assert json.loads(response.body)["predictions"] == ["ABC"] * 50_000 + ["D"]


@pytest.mark.long
def test_parsing_ends_when_the_client_has_gone_and_the_next_body_is_parsed(process: JsonProcess):
    parsing = Parsing()
    threading.Timer(0.1, parsing.cancel).start()
    body = b"[" + b"[[[[[[1]]]]]]," * 1_000_000  # some ten seconds of a processor
    with pytest.raises(ServingError) as caught:
        process.inputs(body, {}, parsing)
    assert caught.value.code is Code.CANCELLED
    with pytest.raises(ServingError, match="The client has gone"):
        process.inputs(b"{}", {}, parsing)
    assert signature_name(process, "a") == "a"


def test_parsing_ends_when_it_takes_too_long():
    process = JsonProcess(timeout_s=0.1)
    with pytest.raises(ServingError, match="too much time or memory") as caught:
        process.inputs(b"[" + b"[[[[[[1]]]]]]," * 1_000_000, {}, Parsing())
    assert caught.value.code is Code.RESOURCE_EXHAUSTED


def test_a_process_that_is_killed_is_replaced(process: JsonProcess):
    assert signature_name(process, "a") == "a"
    assert process._process is not None
    process._process.kill()
    process._process.wait()
    assert signature_name(process, "b") == "b"
