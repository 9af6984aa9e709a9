"""Calls over REST, free of input and output."""

from __future__ import annotations

import dataclasses
import json
import urllib.parse
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from google.protobuf import json_format

from kseq_serving.client import examples, json_arrays, messages, model_info
from kseq_serving.client.call_error import CallError
from kseq_serving.client.calls import Call, Classes, Examples, Prediction
from kseq_serving.client.model_info import ModelMetadata, ModelSpec, Signature, VersionStatus
from kseq_serving.errors import Code, ServingError
from kseq_serving.protocol import output_filter

_SHOWN = 500  # characters of an unreadable answer to put into the error


@dataclasses.dataclass(frozen=True)
class RestRequest:
    """HTTP request.

    Attributes:
        method: HTTP method.
        path: Path behind the server's URL, percent-encoded.
        body: JSON body; None for a request without one.
    """

    method: str
    path: str
    body: bytes | None = None


class RestCalls:
    """Builder of the calls.

    Args:
        address: Address of the server, for errors.
    """

    def __init__(self, address: str):
        self._address = address

    def predict(
        self, prediction: Prediction, arrays: Mapping[str, np.ndarray], signature: Signature | None
    ) -> Call[dict[str, np.ndarray]]:
        """Build a predict call; the signature has what the answer leaves out: dtypes, and the name of a sole output."""
        wanted = self._wanted(prediction, signature)
        self._check_names(prediction, arrays, signature)
        inputs = {name: json_arrays.write(array) for name, array in arrays.items()}
        document = {"signature_name": prediction.signature_name, "inputs": inputs}

        def read(answer: dict[str, Any]) -> dict[str, np.ndarray]:
            if signature is None:
                self._refuse(answer, f"the model had no signature {prediction.signature_name!r} a moment ago")
            try:
                outputs = json_arrays.read_outputs(answer["outputs"], signature.outputs)
            except (KeyError, TypeError, ValueError) as error:
                self._refuse(answer, error)
            return {name: outputs[name] for name in wanted}

        return Call(_post(prediction.spec, "predict", document), read)

    def classify(self, asked: Examples) -> Call[Classes]:
        """Build a classify call."""

        def read(answer: dict[str, Any]) -> Classes:
            return [[(label, float(np.float32(score))) for label, score in row] for row in self._results(answer)]

        return Call(_post(asked.spec, "classify", _example_document(asked)), read)

    def regress(self, asked: Examples) -> Call[np.ndarray]:
        """Build a regress call."""

        def read(answer: dict[str, Any]) -> np.ndarray:
            return np.array(self._results(answer), np.float32)

        return Call(_post(asked.spec, "regress", _example_document(asked)), read)

    def metadata(self, spec: ModelSpec) -> Call[ModelMetadata]:
        """Build a metadata call."""

        def read(answer: dict[str, Any]) -> ModelMetadata:
            try:
                found = answer["model_spec"]
                signatures = self._message(answer["metadata"]["signature_def"], messages.SignatureDefMap())
                return ModelMetadata(found["name"], int(found["version"]), model_info.read_signatures(signatures))
            except (KeyError, TypeError, ValueError) as error:
                self._refuse(answer, error)

        return Call(RestRequest("GET", f"{_path(spec)}/metadata"), read)

    def status(self, spec: ModelSpec) -> Call[list[VersionStatus]]:
        """Build a status call."""

        def read(answer: dict[str, Any]) -> list[VersionStatus]:
            return model_info.read_statuses(self._message(answer, messages.GetModelStatusResponse()))

        return Call(RestRequest("GET", _path(spec)), read)

    def reload(self, _config: Any, /) -> NoReturn:
        """Raise `CallError`: TensorFlow Serving has no such call over REST."""
        raise CallError(
            Code.UNIMPLEMENTED, "REST has no call to reload a configuration: ask the gRPC port", self._address
        )

    def parse(self, status: int, text: str) -> dict[str, Any]:
        """Return the JSON object of an answer.

        Args:
            status: HTTP status of the answer.
            text: Body of the answer.

        Raises:
            CallError: If the status is not 200, or the body is not a JSON object.
        """
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if status != 200:
            message = answer.get("error") if isinstance(answer, dict) else None
            raise CallError(Code.from_http_status(status), message or text[:_SHOWN], self._address, status)
        return answer if isinstance(answer, dict) else self._refuse(text, "expected a JSON object")

    def _wanted(self, prediction: Prediction, signature: Signature | None) -> list[str]:
        """Names of the outputs to return. REST has no output filter, so the client drops the others itself."""
        try:
            return output_filter.choose(signature.outputs, prediction.output_filter) if signature else []
        except ServingError as error:
            raise CallError(error.code, error.message, self._address) from None

    def _check_names(
        self, prediction: Prediction, arrays: Mapping[str, np.ndarray], signature: Signature | None
    ) -> None:
        """Refuse inputs that the signature does not have, which the server ignores over REST and refuses over gRPC.

        If others are missing, the server says so itself.
        """
        unknown = sorted(set(arrays) - set(signature.inputs)) if signature else []
        if unknown and set(signature.inputs) <= set(arrays):
            raise CallError(
                Code.INVALID_ARGUMENT,
                f"there are inputs {unknown}, but the signature {prediction.signature_name!r} takes "
                f"{sorted(signature.inputs)}",
                self._address,
            )

    def _results(self, answer: dict[str, Any]) -> list[Any]:
        return answer["results"] if "results" in answer else self._refuse(answer, "expected 'results'")

    def _message(self, document: Any, message: Any) -> Any:
        try:
            return json_format.ParseDict(document, message, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            self._refuse(document, error)

    def _refuse(self, answer: Any, reason: object) -> NoReturn:
        """Raise the error for an answer that TensorFlow Serving would not send."""
        shown = answer if isinstance(answer, str) else json.dumps(answer)
        raise CallError(Code.DATA_LOSS, f"the answer cannot be read ({reason}): {shown[:_SHOWN]}", self._address, 200)


def _path(spec: ModelSpec) -> str:
    path = f"/v1/models/{urllib.parse.quote(spec.name, safe='')}"
    if spec.version is not None:
        return f"{path}/versions/{spec.version}"
    return f"{path}/labels/{urllib.parse.quote(spec.label, safe='')}" if spec.label is not None else path


def _post(spec: ModelSpec, verb: str, document: dict[str, Any]) -> RestRequest:
    return RestRequest("POST", f"{_path(spec)}:{verb}", json.dumps(document).encode())


def _example_document(asked: Examples) -> dict[str, Any]:
    return {"signature_name": asked.signature_name} | examples.to_json(asked.examples, asked.context)
