"""The REST API: paths and JSON bodies to calls of the data plane, independent of the HTTP library.

``Answer`` and ``Call`` are all that an HTTP server needs to know. The path is the request target as it was sent,
query and fragment included, because TensorFlow Serving takes both for part of a model's name.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import urllib.parse
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from kseq_serving import json_request, json_response, json_writer, signature
from kseq_serving.core import ServerCore
from kseq_serving.errors import Code, FailedPreconditionError, InvalidArgumentError, ServingError
from kseq_serving.metadata import SIGNATURES, get_model_metadata
from kseq_serving.protos import GetModelMetadataRequest, GetModelStatusRequest, ModelSpec, SignatureDefMap
from kseq_serving.status import get_model_status
from kseq_serving.version_source import MAX_VERSION

MAX_PLAIN = 1e15  # larger numbers are printed with an exponent

_VERSION_OR_LABEL = r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_OURS = re.compile(r"/v1/.*", re.IGNORECASE)
_RUN_PATH = re.compile(r"(?i:/v1/models)/(?P<model>[^/:]+)" + f"(?i:{_VERSION_OR_LABEL}):(?P<verb>[a-z]+)")
_MODEL_PATH = re.compile(
    rf"/v1/models(?:/(?P<model>[^/:]+))?{_VERSION_OR_LABEL}(?P<metadata>/metadata)?", re.IGNORECASE
)
_METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"))

_JSON = {"Content-Type": "application/json"}
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}

_log = logging.getLogger(__name__)


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
    return Answer(error.code.http_status, dict(_JSON), json_writer.error_body(error.message))


class RestApi:
    """Answers calls from any thread.

    Args:
        core: the models.
    """

    def __init__(self, core: ServerCore):
        self._core = core
        self._timeout_s = core.flags.rest_api_timeout_in_ms / 1000

    def answer(self, call: Call) -> Answer:
        """Answers one call; never raises."""
        if call.method not in _METHODS:
            return html_answer(501, "Not Implemented")
        if not _OURS.fullmatch(call.path):
            return html_answer(404, "Not Found")
        try:
            answer = self._preflight(call) if call.method == "OPTIONS" else self._dispatch(call)
        except ServingError as error:
            answer = error_answer(error)
        except Exception as error:  # Whatever a request does, the next one must be answered.
            _log.exception("%s %s failed unexpectedly", call.method, call.path)
            answer = error_answer(ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}"))
        if self._core.flags.rest_api_enable_cors_support:
            answer.headers.update(_CORS)
        return answer

    def _preflight(self, call: Call) -> Answer:
        allowed = "http://" in call.origin or "https://" in call.origin
        status = 200 if allowed else FailedPreconditionError("").code.http_status
        return Answer(status, {"Content-Type": "text/html; charset=ISO-8859-1"})

    def _dispatch(self, call: Call) -> Answer:
        pattern = {"POST": _RUN_PATH, "GET": _MODEL_PATH}.get(call.method)
        route = pattern.fullmatch(call.path) if pattern else None
        if route is None:
            raise _malformed(call)
        if int(route["version"] or 0) > MAX_VERSION:
            return Answer(400, dict(_JSON))
        spec = _model_spec(route)
        if call.method == "GET":
            if not spec.name:
                raise InvalidArgumentError("Missing model name in request.")
            body = self._metadata(spec) if route["metadata"] else self._status(spec)
        elif route["verb"] == "predict":
            body = self._predict(spec, call.body)
        else:
            raise _malformed(call)
        return Answer(200, dict(_JSON), body)

    def _predict(self, spec: ModelSpec, body: bytes) -> bytes:
        document = json_request.parse(body)
        name = json_request.signature_name(document)
        with self._core.lease(spec) as servable:
            chosen = servable.session.signatures.get(signature.key(name))
            if chosen is None:
                raise InvalidArgumentError(
                    f'Serving signature name: "{signature.key(name)}" not found in signature def'
                )
            inputs, rows = json_request.read_inputs(document, chosen.inputs)
            outputs = signature.run(servable.session, name, inputs, timeout_s=self._timeout_s)
        return json_response.write(outputs, rows=rows)

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


def _model_spec(route: re.Match[str]) -> ModelSpec:
    spec = ModelSpec(name=_decode(route["model"] or ""))
    if route["version"]:
        spec.version.value = int(route["version"])
    elif route["label"]:
        spec.version_label = _decode(route["label"])
    return spec


def _decode(escaped: str) -> str:
    """Undoes percent escapes; bytes that are no UTF-8 cannot be the name of anything and are replaced."""
    return urllib.parse.unquote(escaped, errors="replace")


def _malformed(call: Call) -> InvalidArgumentError:
    return InvalidArgumentError(f"Malformed request: {call.method} {call.path}")


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
