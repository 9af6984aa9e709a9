"""gRPC adapter: the methods of PredictionService and ModelService.

Requests are parsed here and not by the library, so that malformed messages and unknown methods are answered as by
TensorFlow Serving, with a status and without a text.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from kseq_serving import bounded_log, compression
from kseq_serving.admission import MAX_CALLS, MESSAGE_TIMEOUT_S, Admission
from kseq_serving.budget import Budget, Share
from kseq_serving.core import ServerCore
from kseq_serving.errors import Code, InvalidArgumentError, ServingError
from kseq_serving.grpc_answers import ANSWER_TIMEOUT_S, MAX_ANSWERS_BYTES, UnsentAnswers
from kseq_serving.handlers import examples
from kseq_serving.handlers.metadata import get_model_metadata
from kseq_serving.handlers.predict import predict
from kseq_serving.handlers.reload import reload_config
from kseq_serving.handlers.status import get_model_status
from kseq_serving.protocol import protos, tensors
from kseq_serving.protocol.dtypes import dtype_of
from kseq_serving.protocol.protos import ModelSpec, PredictRequest, PredictResponse
from kseq_serving.workers import Workers

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
NO_DEADLINE_S = 1e9
MAX_DETAIL_BYTES = 1024  # error texts are sent in a header, whose size clients limit
TRUNCATED = b"...TRUNCATED"
MAX_MESSAGE_BYTES = 2**31 - 1
MAX_WAITING_BYTES = 2**31  # of all messages whose calls are not answered yet, compressed and plain

Answer = Callable[..., Message]
"""Function from `(core, request, timeout_s=...)` to the response."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Method:
    """Method of a service.

    Attributes:
        request: Class of the request.
        answer: Function that answers the request.
        api: Name in the metrics; empty for a method that is not counted.
    """

    request: type[Message]
    answer: Answer
    api: str = ""


def answer_predict(core: ServerCore, request: PredictRequest, *, timeout_s: float | None = None) -> PredictResponse:
    """Answer a Predict request.

    Raises:
        ServingError: If the request does not fit the model, or the run failed.
    """
    if not request.HasField("model_spec"):
        raise InvalidArgumentError("Missing ModelSpec")
    spec = request.model_spec
    prediction = predict(
        core,
        spec,
        spec.signature_name,
        lambda _signature: request.inputs,
        output_filter=request.output_filter,
        timeout_s=timeout_s,
    )
    response = PredictResponse()
    response.model_spec.name = prediction.model
    response.model_spec.version.value = prediction.version
    response.model_spec.signature_name = prediction.signature_name
    as_content = core.flags.enable_serialization_as_tensor_content
    for name, array in prediction.outputs.items():
        tensors.fill(response.outputs[name], array, dtype_of(array).as_datatype_enum, as_content=as_content)
    return response


def _without_timeout(answer: Callable[[ServerCore, Any], Message]) -> Answer:
    """Adapt a handler that is quick enough to need no time limit."""
    return lambda core, request, **_timeout: answer(core, request)


METHODS: Mapping[str, Method] = {
    f"/{PREDICTION_SERVICE}/Predict": Method(protos.PredictRequest, answer_predict, "Predict"),
    f"/{PREDICTION_SERVICE}/Classify": Method(protos.ClassificationRequest, examples.classify, "Classify"),
    f"/{PREDICTION_SERVICE}/Regress": Method(protos.RegressionRequest, examples.regress, "Regress"),
    f"/{PREDICTION_SERVICE}/MultiInference": Method(protos.MultiInferenceRequest, examples.multi_inference),
    f"/{PREDICTION_SERVICE}/GetModelMetadata": Method(
        protos.GetModelMetadataRequest, _without_timeout(get_model_metadata)
    ),
    f"/{MODEL_SERVICE}/GetModelStatus": Method(protos.GetModelStatusRequest, _without_timeout(get_model_status)),
    f"/{MODEL_SERVICE}/HandleReloadConfigRequest": Method(protos.ReloadConfigRequest, reload_config),
}


class Services(grpc.GenericRpcHandler):
    """Handler of every gRPC path: the methods of both services, and unknown methods.

    Args:
        core: Models of the server.
        workers: Threads that answer the requests.
    """

    def __init__(self, core: ServerCore, workers: Workers):
        self._core = core
        self._workers = workers
        self._receiving = Admission(MAX_CALLS, MESSAGE_TIMEOUT_S)
        self._unsent = UnsentAnswers(MAX_ANSWERS_BYTES, ANSWER_TIMEOUT_S)
        self._messages = Budget(MAX_WAITING_BYTES, "The messages of the waiting calls")
        self._handlers = {path: self._handler(method) for path, method in METHODS.items()}
        self._unknown = grpc.stream_unary_rpc_method_handler(_refuse_unknown_method)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Return the handler of a path; the library calls this after all other handlers."""
        return self._handlers.get(handler_call_details.method, self._unknown)

    def _handler(self, method: Method) -> grpc.RpcMethodHandler:
        async def handle(_messages: object, context: grpc.aio.ServicerContext) -> bytes:
            return await self._handle(method, context)

        # The library begins a call of streamed messages before the first one has come, so the waiting can be bounded.
        return grpc.stream_unary_rpc_method_handler(handle)

    async def _handle(self, method: Method, context: grpc.aio.ServicerContext) -> bytes:
        share = Share(self._messages)
        try:
            data = await self._receiving.receive(context)
            share.take(len(data))
            answer = await self._workers.run(
                functools.partial(self._answer, method, data, _deadline(context), share), client=context.peer()
            )
        except ServingError as error:
            answer = error
        finally:
            share.release()
        if isinstance(answer, ServingError):
            await context.abort(answer.code.grpc_status, _details(answer))
        self._unsent.add(context, answer)
        return answer

    def _answer(self, method: Method, data: bytes, deadline: float, share: Share) -> bytes | ServingError:
        started = time.perf_counter()
        try:
            request = method.request.FromString(compression.grpc_message(data, share.take))
        except ServingError as error:
            return error
        except DecodeError:
            return ServingError(Code.INTERNAL, "")
        answer = self._try(method, request, deadline)
        seconds = time.perf_counter() - started
        code = answer.code if isinstance(answer, ServingError) else Code.OK
        if method.api:
            self._core.record(_spec(request).name, code, api=method.api, entrypoint="GRPC", seconds=seconds)
        return answer

    def _try(self, method: Method, request: Message, deadline: float) -> bytes | ServingError:
        timeout_s = deadline - time.monotonic()
        if timeout_s <= 0:  # the client no longer waits for the response
            return ServingError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
        try:
            return method.answer(
                self._core, request, timeout_s=timeout_s if timeout_s < NO_DEADLINE_S else None
            ).SerializeToString()
        except ServingError as error:
            return error
        except Exception as error:  # no failure of a request may affect the next one
            bounded_log.failure(_log, request.DESCRIPTOR.name, error)
            return ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")


async def _refuse_unknown_method(_messages: object, context: grpc.aio.ServicerContext) -> bytes:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")


def _spec(request: Any) -> ModelSpec:
    """Return the model and version that a request asks for; empty for requests without a `model_spec` field."""
    return request.model_spec if "model_spec" in request.DESCRIPTOR.fields_by_name else ModelSpec()


def _details(error: ServingError) -> str:
    details = error.message.encode("utf-8", "replace")
    if len(details) > MAX_DETAIL_BYTES:
        details = details[:MAX_DETAIL_BYTES] + TRUNCATED
    return details.decode("utf-8", "ignore")


def _deadline(context: grpc.aio.ServicerContext) -> float:
    """Return the client's deadline on the monotonic clock; infinity without a deadline."""
    remaining = context.time_remaining()
    return math.inf if remaining is None else time.monotonic() + remaining
