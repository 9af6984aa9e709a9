"""Sender of a case's request to a server; it returns the response in the form of the case."""

import http.client
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

TIMEOUT_S = 30
STAGGER_S = 0.05
PREDICTION, MODEL = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
METHODS = {
    "Predict": (PREDICTION, predict_pb2.PredictRequest, predict_pb2.PredictResponse),
    "Classify": (PREDICTION, classification_pb2.ClassificationRequest, classification_pb2.ClassificationResponse),
    "Regress": (PREDICTION, regression_pb2.RegressionRequest, regression_pb2.RegressionResponse),
    "MultiInference": (PREDICTION, inference_pb2.MultiInferenceRequest, inference_pb2.MultiInferenceResponse),
    "GetModelMetadata": (
        PREDICTION,
        get_model_metadata_pb2.GetModelMetadataRequest,
        get_model_metadata_pb2.GetModelMetadataResponse,
    ),
    "GetModelStatus": (MODEL, get_model_status_pb2.GetModelStatusRequest, get_model_status_pb2.GetModelStatusResponse),
    "HandleReloadConfigRequest": (
        MODEL,
        model_management_pb2.ReloadConfigRequest,
        model_management_pb2.ReloadConfigResponse,
    ),
}


class Address(NamedTuple):
    """Addresses of a server."""

    grpc: str
    rest: str


def answer(address: Address, case: dict[str, Any]) -> Any:
    """Return the server's actual response, in the form of the case's expected one."""
    if "together" in case:
        with ThreadPoolExecutor(len(case["together"])) as pool:
            waiting = []
            for one in case["together"]:
                waiting.append(pool.submit(answer, address, one))
                time.sleep(STAGGER_S)
            return [future.result() for future in waiting]
    return _rest(address.rest, **case["rest"]) if "rest" in case else _grpc(address.grpc, **case["grpc"])


def expected(case: dict[str, Any]) -> Any:
    """Return the expected response of a case."""
    if "together" in case:
        return [expected(one) for one in case["together"]]
    return {key: case[key] for key in ("status", "code", "answer", "message") if key in case}


def comparable(value: Any) -> str:
    """Return a text that is equal for equal responses, even if they contain NaN."""
    return json.dumps(value, sort_keys=True, indent=1)


def _rest(address: str, method: str, path: str, body: Any = None, text: str | None = None) -> dict[str, Any]:
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    try:
        data = text if text is not None else None if body is None else json.dumps(body)
        connection.request(method, path, None if data is None else data.encode())
        response = connection.getresponse()
        return {"status": response.status, "answer": json.loads(response.read())}
    finally:
        connection.close()


def _grpc(address: str, method: str, request: dict[str, Any]) -> dict[str, Any]:
    service, request_class, response_class = METHODS[method]
    message = json_format.ParseDict(request, request_class())
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=request_class.SerializeToString,
            response_deserializer=response_class.FromString,
        )
        try:
            response = call(message, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            # Drop the names of graph nodes, which the runtime adds to its texts and which differ between exports.
            return {"code": error.code().name, "message": re.sub(r"\n\t \[\[.*", "", error.details(), flags=re.DOTALL)}
    return {"code": "OK", "answer": json_format.MessageToDict(response, preserving_proto_field_name=True)}
