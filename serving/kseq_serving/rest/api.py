"""The REST API: paths and JSON bodies to calls of the data plane, independent of the HTTP library.

``Answer`` and ``Call`` are all that an HTTP server needs to know. The path is the request target as it was sent,
query and fragment included, because TensorFlow Serving takes both for part of a model's name.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import time
import urllib.parse
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from kseq_serving.core import ServerCore
from kseq_serving.errors import Code, InvalidArgumentError, ServingError
from kseq_serving.handlers import examples
from kseq_serving.handlers.metadata import SIGNATURES, get_model_metadata
from kseq_serving.handlers.predict import predict
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
from kseq_serving.rest import json_examples, json_request, json_response, json_writer

MAX_PLAIN = 1e15  # larger numbers are printed with an exponent

_VERSION_OR_LABEL = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_OURS = re.compile(r"/v1/.*", re.IGNORECASE)
_RUN_PATH = re.compile(
    rf"/v1/models/(?P<model>[^/:]+){_VERSION_OR_LABEL}:(?P<verb>classify|regress|predict)", re.IGNORECASE
)
_MODEL_PATH = re.compile(
    rf"/v1/models(?:/(?P<model>[^/:]+))?{_VERSION_OR_LABEL}(?P<metadata>/metadata)?", re.IGNORECASE
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


@dataclasses.dataclass(frozen=True)
class _Route:
    """What a path asks for."""

    matched: bool
    model: str = ""
    version: str = ""
    label: str = ""
    verb: str = ""
    metadata: bool = False

    def spec(self) -> ModelSpec:
        spec = ModelSpec(name=self.model)
        if self.version:
            spec.version.value = int(self.version)
        elif self.label:
            spec.version_label = self.label
        return spec


@dataclasses.dataclass(frozen=True)
class Call:
    """What a client asked.

    Attributes:
        method: the HTTP method, upper case.
        path: the request target as sent.
        body: the body, decompressed.
        origin: the Origin header, empty without one.
    """

    method: str
    path: str
    body: bytes = b""
    origin: str = ""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a client gets; ``close`` ends the connection behind it."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    close: bool = False


def html_answer(status: int, reason: str) -> Answer:
    """The page for what is no call of this API at all."""
    page = f"<HTML><HEAD>\n<TITLE>{status} {reason}</TITLE>\n</HEAD><BODY>\n<H1>{reason}</H1>\n</BODY></HTML>\n"
    return Answer(status, {"Content-Type": "text/html"}, page.encode(), close=True)


def error_answer(error: ServingError) -> Answer:
    """The JSON body and the status of an error."""
    if isinstance(error, _BareError):
        return Answer(error.code.http_status, dict(error.headers))
    return Answer(error.code.http_status, dict(_JSON), json_writer.error_body(error.message))


class _BareError(ServingError):
    """An error that is answered without a body."""

    def __init__(self, code: Code, headers: dict[str, str]):
        super().__init__(code, "")
        self.headers = headers


class RestApi:
    """Answers calls from any thread.

    Args:
        core: the models.
        monitoring_path: where the metrics are; None for nowhere.
    """

    def __init__(self, core: ServerCore, monitoring_path: str | None = None):
        self._core = core
        self._monitoring_path = monitoring_path
        timeout_ms = core.flags.rest_api_timeout_in_ms
        self._timeout_s = timeout_ms / 1000 if timeout_ms > 0 else None

    def answer(self, call: Call) -> Answer:
        """Answers one call; never raises."""
        if call.method not in _METHODS:
            return html_answer(501, "Not Implemented")
        if call.path == self._monitoring_path:
            return Answer(200, {"Content-Type": "text/plain"}, self._core.metrics.render())
        if not _OURS.fullmatch(call.path):
            return html_answer(404, "Not Found")
        started = time.perf_counter()
        route = _route(call)
        code = Code.OK
        try:
            answer = self._preflight(call) if call.method == "OPTIONS" else self._dispatch(call, route)
        except ServingError as error:
            answer, code = error_answer(error), error.code
        except Exception as error:  # Whatever a request does, the next one must be answered.
            _log.exception("%s %s failed unexpectedly", call.method, call.path)
            answer, code = error_answer(ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")), Code.INTERNAL
        seconds = time.perf_counter() - started
        self._core.record(route.model, code, api=route.verb, entrypoint="REST", seconds=seconds)
        return self._with_cors(answer)

    def refuse(self, call: Call, error: ServingError, *, close: bool = False) -> Answer:
        """Answers a call that the server has no room or no time for.

        Args:
            call: what was asked; its body is not looked at.
            error: why not.
            close: whether to end the connection behind it.
        """
        self._core.record(_route(call).model, error.code, api="", entrypoint="REST", seconds=0.0)
        return self._with_cors(dataclasses.replace(error_answer(error), close=close))

    def _with_cors(self, answer: Answer) -> Answer:
        if self._core.flags.rest_api_enable_cors_support:
            answer.headers.update(_CORS)
        return answer

    def _preflight(self, call: Call) -> Answer:
        if "http://" not in call.origin and "https://" not in call.origin:
            raise _BareError(Code.FAILED_PRECONDITION, _HTML)
        return Answer(200, dict(_HTML))

    def _dispatch(self, call: Call, route: _Route) -> Answer:
        if not route.matched or route.verb not in ("", *_RUNS):  # the verb is lower case, whatever the rest is
            raise InvalidArgumentError(f"Malformed request: {call.method} {call.path}")
        digits = (route.version or "").lstrip("0")
        if len(digits) > len(str(MAX_VERSION)) or int(digits or 0) > MAX_VERSION:
            raise _BareError(Code.INVALID_ARGUMENT, _JSON)
        spec = route.spec()
        if route.verb:
            body = _RUNS[route.verb](self, spec, call.body)
        elif not spec.name:
            raise InvalidArgumentError("Missing model name in request.")
        else:
            body = self._metadata(spec) if route.metadata else self._status(spec)
        return Answer(200, dict(_JSON), body)

    def _classify(self, spec: ModelSpec, body: bytes) -> bytes:
        document = json_request.parse(body)
        spec.signature_name = json_writer.replace_foreign(json_request.signature_name(document))
        request = ClassificationRequest(model_spec=spec, input=json_examples.read(document))
        response = examples.classify(self._core, request, timeout_s=self._timeout_s)
        return json_examples.write_classifications(response.result)

    def _regress(self, spec: ModelSpec, body: bytes) -> bytes:
        document = json_request.parse(body)
        spec.signature_name = json_writer.replace_foreign(json_request.signature_name(document))
        request = RegressionRequest(model_spec=spec, input=json_examples.read(document))
        response = examples.regress(self._core, request, timeout_s=self._timeout_s)
        return json_examples.write_regressions(response.result)

    def _predict(self, spec: ModelSpec, body: bytes) -> bytes:
        document = json_request.parse(body)
        name = json_request.signature_name(document)
        try:
            prediction = predict(
                self._core,
                spec,
                name,
                lambda signature: json_request.read_inputs(document, signature.inputs),
                timeout_s=self._timeout_s,
            )
        except SignatureNotFoundError as error:
            # TensorFlow Serving's REST API has a text and a status of its own for this.
            raise InvalidArgumentError(
                f'Serving signature name: "{signature_key(name)}" not found in signature def'
            ) from error
        return json_response.write(prediction.outputs, rows=json_request.is_in_rows(document))

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


def _route(call: Call) -> _Route:
    """What a path asks for; nothing, for a path that this API does not have."""
    pattern = {"POST": _RUN_PATH, "GET": _MODEL_PATH}.get(call.method)
    found = pattern.fullmatch(call.path) if pattern else None
    if found is None:
        return _Route(matched=False)
    parts = found.groupdict()
    return _Route(
        matched=True,
        model=_decode(parts["model"] or ""),
        version=parts["version"] or "",
        label=_decode(parts["label"] or ""),
        verb=parts.get("verb") or "",
        metadata=bool(parts.get("metadata")),
    )


def _decode(escaped: str) -> str:
    """Undoes percent escapes; bytes that are no UTF-8 cannot be the name of anything and are replaced."""
    return urllib.parse.unquote(escaped, errors="replace")


def _to_json(message: Message) -> str:
    members = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return json.dumps(_without_fractions(members), indent=1, ensure_ascii=False) + "\n"


def _without_fractions(value: Any) -> Any:
    """Whole numbers without ``.0``, as protocol buffers print them in C++."""
    if isinstance(value, dict):
        return {name: _without_fractions(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_without_fractions(element) for element in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < MAX_PLAIN else value
