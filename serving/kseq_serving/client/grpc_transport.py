"""The calls over gRPC."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np

from kseq_serving.client import answers, examples, messages
from kseq_serving.client.address import Address, TlsOptions
from kseq_serving.client.answers import ModelMetadata, ModelSpec, Signature, VersionStatus
from kseq_serving.client.call_error import CallError
from kseq_serving.client.retry import Deadline
from kseq_serving.client.transport import Classes, Examples, Prediction
from kseq_serving.errors import Code
from kseq_serving.protocol import tensors

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
SIGNATURES = "signature_def"

_NUMBERS = {dtype: number for number, dtype in tensors.DTYPES.items()}
# The library waits between its own attempts to connect, at first a second, then up to two minutes; until it has waited,
# every call fails at once. An attempt of ours must find out whether the server is back.
_RECONNECT_MS = 100


class GrpcTransport:
    """A gRPC channel; it belongs to the event loop in which it was made.

    Args:
        address: where the server is.
        tls: how to speak TLS, where the address asks for it.
        max_message_bytes: the largest message in either direction.
    """

    def __init__(self, address: Address, tls: TlsOptions, max_message_bytes: int):
        self._address = address
        options: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS),
            ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS),
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),  # ours are enough
        ]
        if not address.is_secure:
            self._channel = grpc.aio.insecure_channel(address.target, options)
            return
        if tls.server_name:
            options.append(("grpc.ssl_target_name_override", tls.server_name))
        self._channel = grpc.aio.secure_channel(address.target, _credentials(tls), options)

    async def predict(
        self,
        prediction: Prediction,
        arrays: Mapping[str, np.ndarray],
        signature: Signature | None,
        deadline: Deadline,
    ) -> dict[str, np.ndarray]:
        """The outputs; strings as objects, bytes. The answer tells its dtypes, so the signature is not looked at."""
        request = messages.PredictRequest(
            model_spec=_spec(prediction.spec, prediction.signature_name), output_filter=prediction.output_filter
        )
        for name, array in arrays.items():
            if array.dtype not in _NUMBERS:
                raise ValueError(
                    f"Input {name} has dtype {array.dtype}, which no tensor has. Give numbers, booleans or strings."
                )
            tensors.fill(request.inputs[name], array, _NUMBERS[array.dtype])
        response = await self._ask(PREDICTION_SERVICE, "Predict", request, messages.PredictResponse, deadline)
        return {name: tensors.to_array(proto) for name, proto in response.outputs.items()}

    async def classify(self, asked: Examples, deadline: Deadline) -> Classes:
        """The classes of each example."""
        request = messages.ClassificationRequest(
            model_spec=_spec(asked.spec, asked.signature_name), input=examples.to_input(asked.examples, asked.context)
        )
        response = await self._ask(PREDICTION_SERVICE, "Classify", request, messages.ClassificationResponse, deadline)
        return [[(found.label, found.score) for found in row.classes] for row in response.result.classifications]

    async def regress(self, asked: Examples, deadline: Deadline) -> np.ndarray:
        """One number for each example, float32."""
        request = messages.RegressionRequest(
            model_spec=_spec(asked.spec, asked.signature_name), input=examples.to_input(asked.examples, asked.context)
        )
        response = await self._ask(PREDICTION_SERVICE, "Regress", request, messages.RegressionResponse, deadline)
        return np.array([found.value for found in response.result.regressions], np.float32)

    async def metadata(self, spec: ModelSpec, deadline: Deadline) -> ModelMetadata:
        """The signatures of a version."""
        request = messages.GetModelMetadataRequest(model_spec=_spec(spec), metadata_field=[SIGNATURES])
        response = await self._ask(
            PREDICTION_SERVICE, "GetModelMetadata", request, messages.GetModelMetadataResponse, deadline
        )
        signatures = messages.SignatureDefMap.FromString(response.metadata[SIGNATURES].value)
        found = response.model_spec
        return ModelMetadata(found.name, found.version.value, answers.read_signatures(signatures))

    async def status(self, spec: ModelSpec, deadline: Deadline) -> list[VersionStatus]:
        """The states of a model's versions."""
        request = messages.GetModelStatusRequest(model_spec=_spec(spec))
        return answers.read_statuses(
            await self._ask(MODEL_SERVICE, "GetModelStatus", request, messages.GetModelStatusResponse, deadline)
        )

    async def reload(self, config: Any, deadline: Deadline) -> None:
        """Moves the server to another ModelServerConfig."""
        request = messages.ReloadConfigRequest(config=config)
        response = await self._ask(
            MODEL_SERVICE, "HandleReloadConfigRequest", request, messages.ReloadConfigResponse, deadline
        )
        if response.status.error_code:
            raise CallError(Code(response.status.error_code), response.status.error_message, self._address.text)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()

    async def _ask(self, service: str, method: str, request: Any, response: Any, deadline: Deadline) -> Any:
        call = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            return await call(request, timeout=deadline.remaining_s())
        except grpc.aio.AioRpcError as error:
            raise CallError(Code[error.code().name], error.details() or "", self._address.text) from error


def _spec(spec: ModelSpec, signature_name: str = "") -> Any:
    message = messages.ModelSpec(name=spec.name, version_label=spec.label or "", signature_name=signature_name)
    if spec.version is not None:
        message.version.value = spec.version
    return message


def _credentials(tls: TlsOptions) -> grpc.ChannelCredentials:
    ca, key, certificate = (
        pathlib.Path(file).read_bytes() if file else None for file in (tls.ca_file, tls.key_file, tls.certificate_file)
    )
    return grpc.ssl_channel_credentials(ca, key, certificate)
