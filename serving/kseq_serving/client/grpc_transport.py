"""Connection that sends calls over gRPC."""

from __future__ import annotations

import pathlib

import grpc

from kseq_serving.client.address import Address, TlsOptions
from kseq_serving.client.call_error import CallError
from kseq_serving.client.calls import Call, Result
from kseq_serving.client.grpc_calls import GrpcCalls, GrpcRequest
from kseq_serving.client.retry import Deadline
from kseq_serving.errors import Code

# After a failed attempt to connect, gRPC waits a second at first and two minutes at last, and fails every call
# meanwhile. A short wait lets each attempt of the retry policy find out whether the server is back.
_RECONNECT_MS = 100


class GrpcTransport:
    """gRPC channel; it belongs to the event loop in which it was made.

    Args:
        address: Address of the server.
        tls: TLS options, used if the address asks for TLS.
        max_message_bytes: Size of the largest message in either direction.
    """

    def __init__(self, address: Address, tls: TlsOptions, max_message_bytes: int):
        self._address = address.text
        self.calls = GrpcCalls(address.text)
        options: list[tuple[str, int | str]] = [
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MS),
            ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS),
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),  # the client's own RetryPolicy decides
        ]
        if not address.is_secure:
            self._channel = grpc.aio.insecure_channel(address.target, options)
            return
        if tls.server_name:
            options.append(("grpc.ssl_target_name_override", tls.server_name))
        self._channel = grpc.aio.secure_channel(address.target, _credentials(tls), options)

    async def send(self, call: Call[Result], deadline: Deadline) -> Result:
        """Send a call once and return its result."""
        request: GrpcRequest = call.request
        method = self._channel.unary_unary(
            request.method,
            request_serializer=type(request.message).SerializeToString,
            response_deserializer=request.response.FromString,
        )
        try:
            response = await method(request.message, timeout=deadline.remaining_s())
        except grpc.aio.AioRpcError as error:
            raise CallError(Code[error.code().name], error.details() or "", self._address) from error
        return call.read(response)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


def _credentials(tls: TlsOptions) -> grpc.ChannelCredentials:
    ca, key, certificate = (
        pathlib.Path(file).read_bytes() if file else None for file in (tls.ca_file, tls.key_file, tls.certificate_file)
    )
    return grpc.ssl_channel_credentials(ca, key, certificate)
