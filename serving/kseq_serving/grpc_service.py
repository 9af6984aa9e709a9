"""The gRPC adapter: PredictionService and ModelService over the data plane."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar, cast

import grpc
from google.protobuf.message import Message
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from kseq_serving.core import ServerCore
from kseq_serving.errors import Code, InvalidArgumentError, ServingError
from kseq_serving.flags import Flags
from kseq_serving.metadata import get_model_metadata
from kseq_serving.predict import predict
from kseq_serving.protos import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    PredictRequest,
    PredictResponse,
)
from kseq_serving.status import get_model_status

HOST = "0.0.0.0"
MAX_MESSAGE_BYTES = 2**31 - 1
NO_DEADLINE_S = 1e9
MAX_DETAIL_BYTES = 1024  # error texts travel in a header, which clients limit
TRUNCATED = b"...TRUNCATED"

MethodT = TypeVar("MethodT", bound=Callable[..., Any])

_log = logging.getLogger(__name__)


def _answers_errors(method: MethodT) -> MethodT:
    """Turns a ServingError into its gRPC status, and anything else into INTERNAL with a log line."""

    @functools.wraps(method)
    def answer(self: Any, request: Message, context: grpc.ServicerContext) -> Message:
        try:
            return method(self, request, context)
        except ServingError as error:
            _abort(context, error)
        except Exception as error:
            _log.exception("%s failed unexpectedly", method.__name__)
            _abort(context, ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}"))

    return cast(MethodT, answer)


def _abort(context: grpc.ServicerContext, error: ServingError) -> NoReturn:
    details = error.message.encode("utf-8", "replace")
    if len(details) > MAX_DETAIL_BYTES:
        details = details[:MAX_DETAIL_BYTES] + TRUNCATED
    context.abort(error.code.grpc_status, details.decode("utf-8", "ignore"))
    raise AssertionError("context.abort returned")


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """``tensorflow.serving.PredictionService``.

    Args:
        core: the models.
    """

    def __init__(self, core: ServerCore):
        self._core = core

    @_answers_errors
    def Predict(self, request: PredictRequest, context: grpc.ServicerContext) -> PredictResponse:  # noqa: N802
        """Runs a signature; the client's deadline is the run's."""
        return predict(self._core, request, timeout_s=_timeout_s(context))

    @_answers_errors
    def GetModelMetadata(  # noqa: N802
        self, request: GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> GetModelMetadataResponse:
        """Describes a version's signatures."""
        return get_model_metadata(self._core, request)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """``tensorflow.serving.ModelService``.

    Args:
        core: the models.
    """

    def __init__(self, core: ServerCore):
        self._core = core

    @_answers_errors
    def GetModelStatus(  # noqa: N802
        self, request: GetModelStatusRequest, context: grpc.ServicerContext
    ) -> GetModelStatusResponse:
        """Says where the versions of a model stand."""
        return get_model_status(self._core, request)


def _timeout_s(context: grpc.ServicerContext) -> float | None:
    """The time until the client's deadline; a call without one reports some centuries."""
    remaining = context.time_remaining()
    return remaining if remaining is not None and remaining < NO_DEADLINE_S else None


def start(core: ServerCore, flags: Flags) -> grpc.Server:
    """Starts the gRPC server on the port and the socket that the flags name.

    Raises:
        ServingError: neither is named, or one cannot be had.
    """
    server = grpc.server(ThreadPoolExecutor(flags.grpc_max_threads, thread_name_prefix="grpc"), options=_options(flags))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(core), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core), server)
    for address in _addresses(flags):
        try:
            bound = server.add_insecure_port(address)
        except RuntimeError:
            bound = 0
        if not bound:
            raise ServingError(
                Code.UNAVAILABLE, f"gRPC cannot listen at {address}: it is in use, or may not be used by this user"
            )
    server.start()
    return server


def _addresses(flags: Flags) -> list[str]:
    addresses = [f"{HOST}:{flags.port}"] if flags.port else []
    return addresses + ([f"unix:{flags.grpc_socket_path}"] if flags.grpc_socket_path else [])


def _options(flags: Flags) -> list[tuple[str, int | str]]:
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # A second server on the same port must be an error, not a rival that gets every other connection.
        ("grpc.so_reuseport", 0),
    ]
    for argument in filter(None, flags.grpc_channel_arguments.split(",")):
        key, equals, value = argument.partition("=")
        if not equals:
            raise InvalidArgumentError(f"--grpc_channel_arguments: expected key=value, got {argument!r}")
        options.append((key, int(value) if value.lstrip("-").isdigit() else value))
    return options
