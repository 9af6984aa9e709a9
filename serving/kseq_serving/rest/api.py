"""REST adapter: paths and JSON bodies, independent of the HTTP library.

The HTTP server exchanges only `HttpRequest` and `HttpResponse` with it. The path is the request target as sent,
including query and fragment, because TensorFlow Serving treats both as part of the model's name.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import re
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message

from kseq_serving import bounded_log
from kseq_serving.core import ServerCore
from kseq_serving.errors import Code, InvalidArgumentError, ServingError
from kseq_serving.handlers import examples
from kseq_serving.handlers.metadata import SIGNATURES, get_model_metadata
from kseq_serving.handlers.predict import ReadInputs, predict
from kseq_serving.handlers.status import get_model_status
from kseq_serving.inference.predict import SignatureNotFoundError, signature_key
from kseq_serving.models.version_source import MAX_VERSION
from kseq_serving.protocol.protos import (
    ClassificationRequest,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    ModelSpec,
    RegressionRequest,
    SignatureDefMap,
)
from kseq_serving.rest import hosts, json_examples, json_request, json_response, json_writer
from kseq_serving.rest.json_processes import JsonProcess, ParsedExamples, ParsedInputs, Parsing

MAX_PLAIN = 1e15  # larger numbers are printed with an exponent
MAX_PATHS = 256  # that are kept parsed; clients choose them

_VERSION_OR_LABEL = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_OURS = re.compile(r"/v1/.*", re.IGNORECASE)
_RUN_PATH = re.compile(
    rf"/v1/models/(?P<model>[^/:]+){_VERSION_OR_LABEL}:(?P<verb>classify|regress|predict)", re.IGNORECASE
)
_MODEL_PATH = re.compile(
    rf"/v1/models(?:/(?P<model>[^/:]+))?{_VERSION_OR_LABEL}(?P<metadata>/metadata)?", re.IGNORECASE
)
_ABSOLUTE = re.compile(r"https?://(?P<host>[^/?#]*)(?P<path>/.*)?", re.IGNORECASE)
# Characters of a URL, and whole escapes.
_TARGET = re.compile(
    r"(?:[\w\-.~!$&'()*+,;=:@/?\[\]]|%[0-9a-f]{2})*(?:#(?:[\w\-.~!$&'()*+,;=:@/?]|%[0-9a-f]{2})*)?", re.I | re.A
)
_METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"))

_HTML = {"Content-Type": "text/html; charset=ISO-8859-1"}
_JSON = {"Content-Type": "application/json"}
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}

_log = logging.getLogger(__name__)

_Examples = TypeVar("_Examples", ClassificationRequest, RegressionRequest)


@dataclasses.dataclass(frozen=True)
class _Route:
    """Parsed path of a request."""

    is_ours: bool  # whether it begins with /v1/
    matched: bool
    model: str = ""
    version: str = ""
    label: str = ""
    verb: str = ""
    metadata: bool = False

    @functools.cached_property
    def is_beyond_versions(self) -> bool:
        digits = self.version.lstrip("0")
        return len(digits) > len(str(MAX_VERSION)) or int(digits or 0) > MAX_VERSION

    def spec(self) -> ModelSpec:
        spec = ModelSpec(name=self.model)
        if self.version:
            spec.version.value = int(self.version)
        elif self.label:
            spec.version_label = self.label
        return spec


@dataclasses.dataclass(frozen=True)
class HttpRequest:
    """Request of a client.

    Attributes:
        method: HTTP method, in upper case.
        path: Request target as sent.
        body: Body, decompressed.
        origin: Origin header; empty without one.
        hosts: Host headers, as sent.
        parsed: A large body, parsed before by `RestApi.parse_ahead`, or the error that it is refused with.
    """

    method: str
    path: str
    body: bytes = b""
    origin: str = ""
    hosts: Sequence[str] = ()
    parsed: ParsedInputs | ParsedExamples | ServingError | None = None

    def in_origin_form(self) -> HttpRequest:
        """Return the request with a target that is a path; a target like `http://HOST/PATH` becomes one."""
        found = None if self.path.startswith("/") else _ABSOLUTE.fullmatch(self.path)
        if not found:
            return self
        return dataclasses.replace(self, path=found["path"] or "/", hosts=(found["host"], *self.hosts))


@dataclasses.dataclass(frozen=True)
class HttpResponse:
    """Response to a client.

    Attributes:
        status: HTTP status.
        headers: Headers by name.
        body: Body.
        close: Whether to close the connection afterwards.
    """

    status: int
    headers: dict[str, str]
    body: bytes | bytearray = b""
    close: bool = False


def html_response(status: int, reason: str) -> HttpResponse:
    """Return the HTML page for a request that does not belong to this API."""
    page = f"<HTML><HEAD>\n<TITLE>{status} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n</BODY></HTML>\n"
    return HttpResponse(status, {"Content-Type": "text/html"}, page.encode(), close=True)


def error_response(error: ServingError) -> HttpResponse:
    """Return the response for an error, with its status and a JSON body."""
    if isinstance(error, _BareError):
        return HttpResponse(error.code.http_status, dict(error.headers))
    return HttpResponse(error.code.http_status, dict(_JSON), json_writer.error_body(error.message))


class _BareError(ServingError):
    """Error whose response has no body."""

    def __init__(self, code: Code, headers: dict[str, str]):
        super().__init__(code, "")
        self.headers = headers


class RestApi:
    """REST API of a server, usable from any thread.

    Args:
        core: Models of the server.
        monitoring_path: URL path of the metrics; None to serve none.
    """

    def __init__(self, core: ServerCore, monitoring_path: str | None = None):
        self._core = core
        self._monitoring_path = monitoring_path
        timeout_ms = core.flags.rest_api_timeout_in_ms
        self._timeout_s = timeout_ms / 1000 if timeout_ms > 0 else None
        self._hosts = hosts.from_flags(core.flags)

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer a request; never raise."""
        if request.method in _METHODS and not _is_target(request.path):
            return html_response(400, "Bad Request")
        request = request.in_origin_form()
        if self._hosts and (error := self._hosts.refusal(request.hosts, request.origin)):
            return error_response(error)
        return self._answer(request)

    def _answer(self, request: HttpRequest) -> HttpResponse:
        if request.method not in _METHODS:
            return html_response(501, "Not Implemented")
        if request.path == self._monitoring_path:
            return HttpResponse(200, {"Content-Type": "text/plain"}, self._core.metrics.render(asking=1))
        route = _route(request.method, request.path)
        if not route.is_ours:
            return html_response(404, "Not Found")
        started = time.perf_counter()
        code = Code.OK
        try:
            response = self._preflight(request) if request.method == "OPTIONS" else self._dispatch(request, route)
        except ServingError as error:
            response, code = error_response(error), error.code
        except Exception as error:  # no failure of a request may affect the next one
            bounded_log.failure(_log, f"{request.method} {request.path}", error)
            code = Code.INTERNAL
            response = error_response(ServingError(code, f"{type(error).__name__}: {error}"))
        seconds = time.perf_counter() - started
        self._core.record(route.model, code, api=route.verb, entrypoint="REST", seconds=seconds)
        return self._with_cors(response)

    def parse_ahead(self, request: HttpRequest, process: JsonProcess, parsing: Parsing) -> HttpRequest:
        """Return a request whose large body is parsed by another process, or not at all if it is refused anyway.

        Args:
            request: The request.
            process: Process that parses.
            parsing: Handle by which the parsing may be ended.
        """
        request = request.in_origin_form()
        route = _route(request.method, request.path)
        without_body = dataclasses.replace(request, body=b"")
        try:
            if not route.matched or route.verb not in _RUNS or route.is_beyond_versions:
                return without_body
            if self._hosts and self._hosts.refusal(request.hosts, request.origin):
                return without_body
            with self._core.lease(route.spec()) as servable:
                if route.verb != "predict":
                    return dataclasses.replace(without_body, parsed=process.examples(request.body, parsing))
                signatures = {
                    name: {alias: info.dtype for alias, info in signature.inputs.items()}
                    for name, signature in servable.session.signatures.items()
                }
                return dataclasses.replace(without_body, parsed=process.inputs(request.body, signatures, parsing))
        except ServingError as error:
            return dataclasses.replace(without_body, parsed=error)

    def refuse(self, request: HttpRequest, error: ServingError, *, close: bool = False) -> HttpResponse:
        """Answer a request that is refused before it is run, because the server is overloaded or stopping.

        Args:
            request: The request; its body is ignored.
            error: Reason of the refusal.
            close: Whether to close the connection afterwards.
        """
        model = _route(request.method, request.path).model
        self._core.record(model, error.code, api="", entrypoint="REST", seconds=0.0)
        return self._with_cors(dataclasses.replace(error_response(error), close=close))

    def _with_cors(self, response: HttpResponse) -> HttpResponse:
        if self._core.flags.rest_api_enable_cors_support:
            response.headers.update(_CORS)
        return response

    def _preflight(self, request: HttpRequest) -> HttpResponse:
        if "http://" not in request.origin and "https://" not in request.origin:
            raise _BareError(Code.FAILED_PRECONDITION, _HTML)
        return HttpResponse(200, dict(_HTML))

    def _dispatch(self, request: HttpRequest, route: _Route) -> HttpResponse:
        # Unlike the rest of the path, the verb is case-sensitive.
        if not route.matched or route.verb not in ("", *_RUNS):
            raise InvalidArgumentError(f"Malformed request: {request.method} {request.path}")
        if route.is_beyond_versions:
            raise _BareError(Code.INVALID_ARGUMENT, _JSON)
        spec = route.spec()
        if route.verb:
            if isinstance(request.parsed, ServingError):
                raise request.parsed
            body = _RUNS[route.verb](self, spec, request)
        elif not spec.name:
            raise InvalidArgumentError("Missing model name in request.")
        else:
            body = self._metadata(spec) if route.metadata else self._status(spec)
        return HttpResponse(200, dict(_JSON), body)

    def _classify(self, spec: ModelSpec, request: HttpRequest) -> bytes:
        classification = _read_examples(ClassificationRequest(model_spec=spec), request)
        response = examples.classify(self._core, classification, timeout_s=self._timeout_s)
        return json_examples.write_classifications(response.result)

    def _regress(self, spec: ModelSpec, request: HttpRequest) -> bytes:
        regression = _read_examples(RegressionRequest(model_spec=spec), request)
        response = examples.regress(self._core, regression, timeout_s=self._timeout_s)
        return json_examples.write_regressions(response.result)

    def _predict(self, spec: ModelSpec, request: HttpRequest) -> bytearray:
        parsed = request.parsed
        if isinstance(parsed, ParsedInputs):
            return self._run(spec, parsed.signature_name, lambda _signature: _inputs(parsed), in_rows=parsed.in_rows)
        document = json_request.parse(request.body)
        return self._run(
            spec,
            json_request.signature_name(document),
            lambda signature: json_request.read_inputs(document, signature.inputs),
            in_rows=json_request.is_in_rows(document),
        )

    def _run(self, spec: ModelSpec, name: str, read_inputs: ReadInputs, *, in_rows: bool) -> bytearray:
        try:
            prediction = predict(self._core, spec, name, read_inputs, timeout_s=self._timeout_s)
        except SignatureNotFoundError as error:
            # TensorFlow Serving's REST API has its own text and status for this.
            raise InvalidArgumentError(
                f'Serving signature name: "{signature_key(name)}" not found in signature def'
            ) from error
        return json_response.write(prediction.outputs, rows=in_rows)

    def _status(self, spec: ModelSpec) -> bytes:
        return _to_json(get_model_status(self._core, GetModelStatusRequest(model_spec=spec))).encode()

    def _metadata(self, spec: ModelSpec) -> bytes:
        request = GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURES])
        response = get_model_metadata(self._core, request)
        signatures = SignatureDefMap()
        response.metadata[SIGNATURES].Unpack(signatures)
        text = (
            f'{{\n"model_spec":{_to_json(response.model_spec)},\n'
            f'"metadata": {{"signature_def": {_to_json(signatures)}}}\n}}\n'
        )
        return text.encode()


_RUNS = {"classify": RestApi._classify, "predict": RestApi._predict, "regress": RestApi._regress}


def _read_examples(message: _Examples, request: HttpRequest) -> _Examples:
    """Fill the signature's name and the examples into a request message, and return it."""
    parsed = request.parsed
    if isinstance(parsed, ParsedExamples):
        name, pieces = parsed.signature_name, parsed.pieces
    else:
        document = json_request.parse(request.body)
        name, pieces = json_request.signature_name(document), json_examples.read(document)
    message.model_spec.signature_name = json_writer.replace_foreign(name)
    for piece in pieces:
        message.input.MergeFromString(piece)
    return message


def _inputs(parsed: ParsedInputs) -> Mapping[str, np.ndarray]:
    if parsed.error:
        raise parsed.error
    return parsed.arrays


@functools.lru_cache(MAX_PATHS)
def _is_target(path: str) -> bool:
    return _TARGET.fullmatch(path) is not None


@functools.lru_cache(MAX_PATHS)
def _route(method: str, path: str) -> _Route:
    """Parse the path of a request; `matched` is False for a path that this API does not have."""
    pattern = {"POST": _RUN_PATH, "GET": _MODEL_PATH}.get(method)
    found = pattern.fullmatch(path) if pattern else None
    if found is None:
        return _Route(is_ours=_OURS.fullmatch(path) is not None, matched=False)
    parts = found.groupdict()
    return _Route(
        is_ours=True,
        matched=True,
        model=_decode(parts["model"] or ""),
        version=parts["version"] or "",
        label=_decode(parts["label"] or ""),
        verb=parts.get("verb") or "",
        metadata=parts.get("metadata") == "/metadata",  # in upper case it is the status
    )


def _decode(escaped: str) -> str:
    """Undo percent escapes; bytes that are not UTF-8 are replaced, since no name contains them."""
    return urllib.parse.unquote(escaped, errors="replace")


def _to_json(message: Message) -> str:
    members = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return json.dumps(_without_fractions(members), indent=1, ensure_ascii=False) + "\n"


def _without_fractions(value: Any) -> Any:
    """Convert whole floats to integers, which C++ protocol buffers print without `.0`."""
    if isinstance(value, dict):
        return {name: _without_fractions(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_without_fractions(element) for element in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < MAX_PLAIN else value
