"""Playground: its page and files over HTTP."""

import http.client
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kseq_serving import flags
from kseq_serving.errors import InvalidArgumentError
from tests.kseq_serving.clients import ServerProcess
from tests.kseq_serving.test_server_process import one_model

SCRIPTS = ("page.js", "fields.js", "answer.js", "heat_map.js", "element.js")
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


def test_it_says_where_the_page_is(playground: ServerProcess):
    assert f"Playground at http://localhost:{playground.rest_port}/\n" in playground.log.read_text()


def test_the_page_needs_the_rest_port():
    given, _ = flags.parse(["--enable_playground", "--model_base_path=/models/m"])
    with pytest.raises(InvalidArgumentError, match="set --rest_api_port too"):
        flags.check(given)
