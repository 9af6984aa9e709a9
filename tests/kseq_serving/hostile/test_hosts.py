"""Web pages of strangers that call the REST API through the user's browser."""

import pytest

from kseq_serving.core import ServerCore
from kseq_serving.flags import Flags
from kseq_serving.protocol.protos import ConfigProto
from kseq_serving.rest.api import HttpRequest, RestApi
from kseq_serving.rest.playground import Playground

OWN = ["localhost", "LOCALHOST:8501", "127.0.0.1:8501", "127.8.9.1", "[::1]:8501", "app.localhost", "localhost."]
FOREIGN = [
    "evil.example",
    "evil.example:8501",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evillocalhost",
    "10.0.0.1",
    "0.0.0.0",
    "[::2]",
    "[::1",
    "",
    "x@localhost/",
]


def api(**flags) -> RestApi:
    return RestApi(ServerCore(Flags(rest_api_port=1, **flags), ConfigProto()))


def status(api: RestApi, *hosts: str, **fields) -> int:
    return api.answer(HttpRequest("GET", "/v1/models/m", hosts=hosts, **fields)).status


@pytest.mark.parametrize("host", OWN)
def test_names_of_the_loopback_interface_are_answered(host: str):
    assert status(api(rest_api_enable_cors_support=True), host) == 404


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_are_refused(host: str):
    served = api(rest_api_enable_cors_support=True)
    response = served.answer(HttpRequest("GET", "/v1/models/m", hosts=[host]))
    assert (response.status, b"--rest_api_allowed_hosts" in response.body) == (403, True)
    assert "Access-Control-Allow-Origin" not in response.headers
    assert status(served, "localhost", host) == 403  # a second Host header


def test_the_playground_is_refused_to_other_names_too():
    core = ServerCore(Flags(rest_api_port=1, enable_playground=True), ConfigProto())
    playground = Playground(core)
    for path in ("/", "/playground/models", "/v1/models/m", "/nothing"):
        assert playground.answer(HttpRequest("GET", path, hosts=["evil.example"])).status == 403
        assert playground.answer(HttpRequest("GET", f"http://evil.example{path}", hosts=["localhost"])).status == 403
    assert playground.answer(HttpRequest("GET", "/", hosts=["localhost:8501"])).status == 200


def test_names_given_by_the_flag_are_answered():
    served = api(rest_api_enable_cors_support=True, rest_api_allowed_hosts="Models.example, 10.0.0.1")
    assert [status(served, host) for host in ("models.example:80", "10.0.0.1", "other.example")] == [404, 404, 403]


def test_without_the_two_flags_any_name_is_answered_as_by_tensorflow_serving():
    assert status(api(), "evil.example", origin="http://evil.example") == 404


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://[", "https://localhost.evil.example"])
def test_pages_of_other_sites_are_refused_unless_cors_is_on(origin: str):
    assert status(api(enable_playground=True), "localhost", origin=origin) == 403
    assert status(api(rest_api_enable_cors_support=True), "localhost", origin=origin) == 404
    assert status(api(enable_playground=True), "localhost", origin="http://localhost:8501") == 404
