"""The gRPC adapter: PredictionService and ModelService over the data plane.

Requests are parsed here and not by the library, so that what is no message, and what is no method, is answered as
TensorFlow Serving answers it: with a status and no text.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError, Message

from kseq_serving import inference, protos
from kseq_serving.core import ServerCore
from kseq_serving.errors import Code, ServingError
from kseq_serving.metadata import get_model_metadata
from kseq_serving.predict import predict
from kseq_serving.reload import reload_config
from kseq_serving.status import get_model_status

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
NO_DEADLINE_S = 1e9
MAX_DETAIL_BYTES = 1024  # error texts travel in a header, which clients limit
TRUNCATED = b"...TRUNCATED"

Answer = Callable[..., Message]
"""``(core, request, timeout_s=...)`` to the response."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of a service.

    Attributes:
        request: the class of its request.
        answer: what answers it.
        api: its name in the metrics; empty for one that is not counted.
    """

    request: type[Message]
    answer: Answer
    api: str = ""


def _without_timeout(answer: Callable[[ServerCore, Any], Message]) -> Answer:
    return lambda core, request, timeout_s: answer(core, request)


METHODS: Mapping[str, Method] = {
    f"/{PREDICTION_SERVICE}/Predict": Method(protos.PredictRequest, predict, "Predict"),
    f"/{PREDICTION_SERVICE}/Classify": Method(protos.ClassificationRequest, inference.classify, "Classify"),
    f"/{PREDICTION_SERVICE}/Regress": Method(protos.RegressionRequest, inference.regress, "Regress"),
    f"/{PREDICTION_SERVICE}/MultiInference": Method(protos.MultiInferenceRequest, inference.multi_inference),
    f"/{PREDICTION_SERVICE}/GetModelMetadata": Method(
        protos.GetModelMetadataRequest, _without_timeout(get_model_metadata)
    ),
    f"/{MODEL_SERVICE}/GetModelStatus": Method(protos.GetModelStatusRequest, _without_timeout(get_model_status)),
    f"/{MODEL_SERVICE}/HandleReloadConfigRequest": Method(protos.ReloadConfigRequest, reload_config),
}


class Services(grpc.GenericRpcHandler):
    """Answers every path: the methods of both services, and what is none of them.

    Args:
        core: the models.
    """

    def __init__(self, core: ServerCore):
        self._core = core
        self._handlers = {path: self._handler(method) for path, method in METHODS.items()}
        self._unknown = grpc.unary_unary_rpc_method_handler(_refuse_unknown_method)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """The handler of a path; the library looks here last."""
        return self._handlers.get(handler_call_details.method, self._unknown)

    def _handler(self, method: Method) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(lambda data, context: self._answer(method, data, context))

    def _answer(self, method: Method, data: bytes, context: grpc.ServicerContext) -> bytes:
        started = time.perf_counter()
        try:
            request = method.request.FromString(data)
        except DecodeError:
            context.abort(grpc.StatusCode.INTERNAL, "")
        error = None
        body = b""
        try:
            with self._core.metrics.in_flight():
                body = method.answer(self._core, request, timeout_s=_timeout_s(context)).SerializeToString()
        except ServingError as caught:
            error = caught
        except Exception as caught:  # Whatever a request does, the next one must be answered.
            _log.exception("%s failed unexpectedly", method.request.DESCRIPTOR.name)
            error = ServingError(Code.INTERNAL, f"{type(caught).__name__}: {caught}")
        if method.api:
            seconds = time.perf_counter() - started
            code = error.code if error else Code.OK
            model: Any = request
            self._core.record(model.model_spec.name, code, api=method.api, entrypoint="GRPC", seconds=seconds)
        if error:
            _abort(context, error)
        return body


def _refuse_unknown_method(data: bytes, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "")


def _abort(context: grpc.ServicerContext, error: ServingError) -> NoReturn:
    details = error.message.encode("utf-8", "replace")
    if len(details) > MAX_DETAIL_BYTES:
        details = details[:MAX_DETAIL_BYTES] + TRUNCATED
    context.abort(error.code.grpc_status, details.decode("utf-8", "ignore"))
    raise AssertionError("context.abort returned")


def _timeout_s(context: grpc.ServicerContext) -> float | None:
    """The time until the client's deadline; a call without one reports some centuries.

    Raises:
        ServingError: the deadline has passed, so that nobody waits for the answer.
    """
    remaining = context.time_remaining()
    if remaining is None or remaining > NO_DEADLINE_S:
        return None
    if remaining <= 0:
        raise ServingError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
    return remaining
