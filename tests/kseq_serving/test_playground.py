"""Playground: its page and files over HTTP."""

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kseq_serving.rest import playground_card
from tests.kseq_serving.clients import ServerProcess
from tests.kseq_serving.playground_models import write_card
from tests.kseq_serving.test_server_process import one_model

pytestmark = pytest.mark.server

SCRIPTS = ("page.js", "card.js", "fields.js", "answer.js", "texts.js", "tables.js", "heat_map.js", "element.js")
TYPES = {
    "/": "text/html; charset=utf-8",
    **{f"/playground/{name}": "text/javascript; charset=utf-8" for name in SCRIPTS},
    "/playground/page.css": "text/css; charset=utf-8",
    "/playground/icon.svg": "image/svg+xml",
    "/playground/models": "application/json",
}


@pytest.fixture(scope="module")
def playground(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    log = tmp_path_factory.mktemp("playground") / "log"
    server = ServerProcess(log, *one_model(models / "toy", "--enable_playground"))
    try:
        yield server.wait_ready()
    finally:
        server.stop()


def ask(server: ServerProcess, method: str, path: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", TYPES)
def test_what_the_page_needs_is_served(playground: ServerProcess, path: str):
    status, headers, body = ask(playground, "GET", path)
    assert (status, headers["Content-Type"]) == (200, TYPES[path])
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert not re.search(rb"(https?:)?//\w+[.\w]*/", body.replace(b"http://www.w3.org/2000/svg", b""))
    head_status, head_headers, head_body = ask(playground, "HEAD", path)
    assert (head_status, head_headers["Content-Type"], head_body) == (200, TYPES[path], b"")


def test_all_that_the_page_and_its_scripts_name_is_served(playground: ServerProcess):
    named = {f"/{path.decode()}" for path in re.findall(rb'(?:src|href)="([^"]+)"', ask(playground, "GET", "/")[2])}
    for name in SCRIPTS:
        body = ask(playground, "GET", f"/playground/{name}")[2]
        named |= {f"/playground/{imported.decode()}" for imported in re.findall(rb'from "\./([^"]+)"', body)}
    assert {"/"} | named | {"/playground/models"} == TYPES.keys()


@pytest.mark.parametrize(
    "path",
    [
        "/playground",
        "/playground/",
        "/playground/index.html",
        "/playground/none.js",
        "/playground/../playground.py",
        "/playground/%2e%2e/playground.py",
        "/playground//etc/passwd",
        "/?a=b",
    ],
)
def test_there_is_nothing_else(playground: ServerProcess, server: ServerProcess, path: str):
    assert playground.rest("GET", path) == server.rest("GET", path)
    assert playground.rest("GET", path)[0] == 404


@pytest.mark.parametrize("path", TYPES)
def test_without_the_flag_there_is_no_page(server: ServerProcess, path: str):
    status, headers, body = ask(server, "GET", path)
    assert (status, headers["Content-Type"]) == (404, "text/html")
    assert body.startswith(b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>")
    assert "Content-Security-Policy" not in headers


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/"), ("DELETE", "/playground/page.js"), ("TRACE", "/"), ("GET", "/v1/models/toy"), ("GET", "/v1/x")],
)
def test_all_else_is_answered_as_ever(playground: ServerProcess, server: ServerProcess, method: str, path: str):
    path = path.replace("toy", "m")
    assert playground.rest(method, path)[0] == (200 if path == "/v1/models/m" else server.rest(method, path)[0])


def test_the_models_that_answer_are_listed(playground: ServerProcess):
    assert playground.rest("GET", "/playground/models") == (200, {"models": [{"name": "m", "versions": ["1"]}]})


def test_a_version_without_a_card_has_an_empty_one(playground: ServerProcess):
    for path in ("/playground/models/m", "/playground/models/m/versions/1"):
        assert playground.rest("GET", path) == (200, {})
    missing = "Servable not found for request: Specific(m, 2)"
    assert playground.rest("GET", "/playground/models/m/versions/2") == (404, {"error": missing})


def test_a_card_is_read(tmp_path: Path):
    card = {"title": "T", "description": "D", "examples": [{"name": "N", "signature_name": "s", "inputs": {"x": [1]}}]}
    write_card(tmp_path, json.dumps(card))
    assert playground_card.read(str(tmp_path)) == card


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[]", "it is not a JSON object"),
        ('{"title": 1}', "title of it is not a JSON string"),
        ('{"examples": [{"inputs": {}}, {"name": "a"}]}', "examples[1] has no inputs"),
        ('{"examples": [{"inputs": ["a"]}]}', "inputs of examples[0] is not a JSON object"),
        (
            '{"examples": [{"text": "a"}]}',
            "examples[0] has an unknown member 'text'; known are name, signature_name, inputs",
        ),
        ("[" * 100_000, "maximum recursion depth exceeded"),
        ('{"title": "' + "a" * playground_card.MAX_BYTES + '"}', "it has more than 8388608 bytes"),
        ('{"title": ', "Expecting value"),
    ],
)
def test_a_card_that_cannot_be_used_says_why(tmp_path: Path, content: str, problem: str):
    write_card(tmp_path, content)
    said = playground_card.read(str(tmp_path))["problem"]
    assert said.startswith(f"assets.extra/kseq_playground.json is not used: {problem}")


def test_it_says_where_the_page_is(playground: ServerProcess):
    assert f"Playground at http://localhost:{playground.rest_port}/\n" in playground.log.read_text()
