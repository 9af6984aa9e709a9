"""Calls over gRPC, free of input and output."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kseq_serving.client import examples, messages, model_info
from kseq_serving.client.call_error import CallError
from kseq_serving.client.calls import Call, Classes, Examples, Prediction, Result
from kseq_serving.client.model_info import ModelMetadata, ModelSpec, Signature, VersionStatus
from kseq_serving.errors import Code
from kseq_serving.protocol import tensors

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
SIGNATURES = "signature_def"

_NUMBERS = {dtype: number for number, dtype in tensors.DTYPES.items()}


@dataclasses.dataclass(frozen=True)
class GrpcRequest:
    """Request of a unary gRPC method.

    Attributes:
        method: Full name of the method, `/SERVICE/METHOD`.
        message: Message to send.
        response: Class of the response message.
    """

    method: str
    message: Any
    response: Any


class GrpcCalls:
    """Builder of the calls.

    Args:
        address: Address of the server, for errors.
    """

    def __init__(self, address: str):
        self._address = address

    def predict(
        self, prediction: Prediction, arrays: Mapping[str, np.ndarray], _signature: Signature | None, /
    ) -> Call[dict[str, np.ndarray]]:
        """Build a predict call; its answer names the dtypes, so the signature is not needed."""
        request = messages.PredictRequest(
            model_spec=_spec(prediction.spec, prediction.signature_name), output_filter=prediction.output_filter
        )
        for name, array in arrays.items():
            if array.dtype not in _NUMBERS:
                raise ValueError(
                    f"Input {name} has dtype {array.dtype}, which no tensor has. Give numbers, booleans or strings."
                )
            tensors.fill(request.inputs[name], array, _NUMBERS[array.dtype])
        return _call(PREDICTION_SERVICE, "Predict", request, messages.PredictResponse, _read_outputs)

    def classify(self, asked: Examples) -> Call[Classes]:
        """Build a classify call."""
        request = messages.ClassificationRequest(**_example_fields(asked))
        return _call(PREDICTION_SERVICE, "Classify", request, messages.ClassificationResponse, _read_classes)

    def regress(self, asked: Examples) -> Call[np.ndarray]:
        """Build a regress call."""
        request = messages.RegressionRequest(**_example_fields(asked))
        return _call(PREDICTION_SERVICE, "Regress", request, messages.RegressionResponse, _read_numbers)

    def metadata(self, spec: ModelSpec) -> Call[ModelMetadata]:
        """Build a metadata call."""
        request = messages.GetModelMetadataRequest(model_spec=_spec(spec), metadata_field=[SIGNATURES])
        response = messages.GetModelMetadataResponse
        return _call(PREDICTION_SERVICE, "GetModelMetadata", request, response, _read_metadata)

    def status(self, spec: ModelSpec) -> Call[list[VersionStatus]]:
        """Build a status call."""
        request = messages.GetModelStatusRequest(model_spec=_spec(spec))
        response = messages.GetModelStatusResponse
        return _call(MODEL_SERVICE, "GetModelStatus", request, response, model_info.read_statuses)

    def reload(self, config: Any) -> Call[None]:
        """Build a reload call."""
        request = messages.ReloadConfigRequest(config=config)
        response = messages.ReloadConfigResponse
        return _call(MODEL_SERVICE, "HandleReloadConfigRequest", request, response, self._check_reloaded)

    def _check_reloaded(self, response: Any) -> None:
        if response.status.error_code:
            raise CallError(Code(response.status.error_code), response.status.error_message, self._address)


def _call(service: str, method: str, message: Any, response: Any, read: Callable[[Any], Result]) -> Call[Result]:
    return Call(GrpcRequest(f"/{service}/{method}", message, response), read)


def _spec(spec: ModelSpec, signature_name: str = "") -> Any:
    message = messages.ModelSpec(name=spec.name, version_label=spec.label or "", signature_name=signature_name)
    if spec.version is not None:
        message.version.value = spec.version
    return message


def _example_fields(asked: Examples) -> dict[str, Any]:
    return {
        "model_spec": _spec(asked.spec, asked.signature_name),
        "input": examples.to_input(asked.examples, asked.context),
    }


def _read_outputs(response: Any) -> dict[str, np.ndarray]:
    return {name: tensors.to_array(proto) for name, proto in response.outputs.items()}


def _read_classes(response: Any) -> Classes:
    return [[(found.label, found.score) for found in row.classes] for row in response.result.classifications]


def _read_numbers(response: Any) -> np.ndarray:
    return np.array([found.value for found in response.result.regressions], np.float32)


def _read_metadata(response: Any) -> ModelMetadata:
    signatures = messages.SignatureDefMap.FromString(response.metadata[SIGNATURES].value)
    found = response.model_spec
    return ModelMetadata(found.name, found.version.value, model_info.read_signatures(signatures))
