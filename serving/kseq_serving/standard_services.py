"""Services of the gRPC library (health and reflection), with the bounds of this server's own."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from kseq_serving import compression
from kseq_serving.admission import MAX_CALLS, MESSAGE_TIMEOUT_S, Admission
from kseq_serving.budget import Budget, Share
from kseq_serving.errors import Code, ServingError

MAX_OPEN_CALLS = 1000  # such as those that watch the health
MAX_MESSAGE_BYTES = 1 << 16  # these messages are read by the thread of the event loop

Context = grpc.aio.ServicerContext


class StandardServices(grpc.GenericRpcHandler):
    """Handlers that the library's functions register, as on a server."""

    def __init__(self) -> None:
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._receiving = Admission(MAX_CALLS, MESSAGE_TIMEOUT_S)
        self._open = Admission(MAX_OPEN_CALLS)

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Register handlers."""
        self._handlers += handlers

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler]) -> None:
        """Do nothing: the generic handlers hold the same methods."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return the handler of a path; None if it belongs to none of these services."""
        for handler in self._handlers:
            if found := handler.service(handler_call_details):
                return self._bounded(_Method(found))
        return None

    def _bounded(self, method: _Method) -> grpc.RpcMethodHandler:
        async def unary(_messages: object, context: Context) -> Any:
            try:
                request = method.read(await self._receiving.receive(context))
                with self._open.place(context.peer()):
                    return await method.inner(request, context)
            except ServingError as error:
                await context.abort(error.code.grpc_status, error.message)

        async def requests(context: Context) -> AsyncIterator[Any]:
            while isinstance(data := await context.read(), bytes):
                yield method.read(data)

        async def stream(_messages: object, context: Context) -> AsyncIterator[Any]:
            try:
                with self._open.place(context.peer()):
                    async for answer in method.inner(requests(context), context):
                        yield answer
            except ServingError as error:
                await context.abort(error.code.grpc_status, error.message)

        handler = method.handler
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(stream, None, handler.response_serializer)
        if handler.unary_stream:
            return grpc.stream_stream_rpc_method_handler(unary, None, handler.response_serializer)
        return grpc.stream_unary_rpc_method_handler(unary, None, handler.response_serializer)


@dataclasses.dataclass(frozen=True)
class _Method:
    """Method of a library's service; `handler` is what the library registered."""

    handler: Any

    @property
    def inner(self) -> Callable[..., Any]:
        return self.handler.unary_unary or self.handler.unary_stream or self.handler.stream_stream

    def read(self, data: bytes) -> Any:
        """Return a message.

        Raises:
            ServingError: If it is too large, or malformed.
        """
        budget = Share(Budget(MAX_MESSAGE_BYTES, "The messages to this service"))
        budget.take(len(data))
        try:
            return self.handler.request_deserializer(compression.grpc_message(data, budget.take))
        except DecodeError:
            raise ServingError(Code.INTERNAL, "") from None
