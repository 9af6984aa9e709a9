"""gRPC server: ports, sockets, credentials, and the health and reflection services."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2  # noqa: F401 (reflection shows them)

from kseq_serving.admission import MAX_CALLS
from kseq_serving.core import ServerCore
from kseq_serving.errors import InvalidArgumentError, UnimplementedError
from kseq_serving.flags import Flags
from kseq_serving.grpc_answers import MAX_ANSWERS
from kseq_serving.grpc_service import MAX_MESSAGE_BYTES, MODEL_SERVICE, PREDICTION_SERVICE, Services
from kseq_serving.models.model_config import read_text_proto
from kseq_serving.ports import GRPC_HOST, cannot_listen, max_connections
from kseq_serving.protocol.protos import SSLConfig
from kseq_serving.standard_services import MAX_OPEN_CALLS, StandardServices
from kseq_serving.workers import Workers

# Services whose health TensorFlow Serving reports; the empty name stands for the whole server.
_HEALTHY = ("", "ModelService", "PredictionService")
IDLE_TIMEOUT_S = 300.0  # of a connection without calls; clients connect again when they need to
HANDSHAKE_TIMEOUT_S = 20.0


class GrpcServer:
    """Server of the gRPC protocol.

    Args:
        core: Models of the server.
        flags: Options of the server.
        workers: Threads that answer the requests.

    Raises:
        ServingError: If a port or socket cannot be used, or the credentials are wrong.
    """

    def __init__(self, core: ServerCore, flags: Flags, workers: Workers):
        self._workers = workers
        # A connection may have more calls than are answered, so that those above get RESOURCE_EXHAUSTED; a client keeps
        # back calls above this number.
        calls = 2 * workers.max_in_flight + MAX_OPEN_CALLS + MAX_CALLS + MAX_ANSWERS
        options = [*_options(flags), ("grpc.max_concurrent_streams", calls)]
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=2 * calls)
        self._health = _Health()
        libraries = StandardServices()
        services = [PREDICTION_SERVICE, MODEL_SERVICE, reflection.SERVICE_NAME]
        if flags.enable_grpc_healthcheck_service:
            services.append(health.SERVICE_NAME)
            health_pb2_grpc.add_HealthServicer_to_server(self._health, libraries)
        reflected = reflection.aio.ReflectionServicer(services)  # pyright: ignore[reportAttributeAccessIssue]  # no stubs
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, libraries)
        self._server.add_generic_rpc_handlers((libraries, Services(core, workers)))
        credentials = _credentials(flags)
        for address in _addresses(flags):
            self._listen(address, credentials)

    async def start(self) -> None:
        """Start to answer requests."""
        await self._health.start()
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Refuse new requests with UNAVAILABLE, and return when those in progress have ended or been cancelled.

        Args:
            grace_s: Time for requests in progress, in seconds; then they are cancelled.
        """
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        self._workers.stop()

    def _listen(self, address: str, credentials: grpc.ServerCredentials | None) -> None:
        try:
            if credentials:
                bound = self._server.add_secure_port(address, credentials)
            else:
                bound = self._server.add_insecure_port(address)
        except RuntimeError:
            bound = 0
        if not bound:
            raise cannot_listen("gRPC", address, "it is in use, or may not be used by this user")


class _Health(health.aio.HealthServicer):  # pyright: ignore[reportAttributeAccessIssue]  # its stubs lack aio
    """Health service of the library, with TensorFlow Serving's names and its error text for unknown ones."""

    async def start(self) -> None:
        for name in _HEALTHY:
            await self.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> None:  # the library's own annotation, though the method returns the response
        if request.service not in _HEALTHY:
            await context.abort(grpc.StatusCode.NOT_FOUND, "service name unknown")
        return await super().Check(request, context)


def _credentials(flags: Flags) -> grpc.ServerCredentials | None:
    """Return the credentials of the server; None to serve without encryption."""
    if flags.use_alts_credentials:
        # Never serve without encryption if it was asked for.
        raise UnimplementedError("ALTS credentials are not supported: gRPC's Python library has none for servers.")
    if not flags.ssl_config_file:
        return None
    config = read_text_proto(flags.ssl_config_file, SSLConfig())
    if not config.server_key or not config.server_cert:
        raise InvalidArgumentError(
            f"{flags.ssl_config_file} must give both server_key and server_cert, each a PEM text, not a path."
        )
    if config.client_verify and not config.custom_ca:
        raise InvalidArgumentError(
            f"{flags.ssl_config_file} asks for client_verify, which needs the certificates to verify against in "
            "custom_ca, as a PEM text."
        )
    pair = (config.server_key.encode(), config.server_cert.encode())
    return grpc.ssl_server_credentials([pair], config.custom_ca.encode() or None, config.client_verify)


def _addresses(flags: Flags) -> list[str]:
    addresses = [f"{GRPC_HOST}:{flags.port}"] if flags.port else []
    return addresses + ([f"unix:{flags.grpc_socket_path}"] if flags.grpc_socket_path else [])


def _options(flags: Flags) -> list[tuple[str, int | str]]:
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # With it, any second server could listen on the same port and would get half of the connections.
        ("grpc.so_reuseport", int(flags.num_processes > 1)),
        # The library would decompress any message of its largest size, to a thousand times that.
        ("grpc.per_message_decompression", 0),
        # Connections must leave file descriptors to the REST port and the models.
        ("grpc.max_allowed_incoming_connections", max_connections()),
        ("grpc.max_connection_idle_ms", int(IDLE_TIMEOUT_S * 1000)),
        ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_TIMEOUT_S * 1000)),
    ]
    for argument in filter(None, flags.grpc_channel_arguments.split(",")):
        key, equals, value = argument.partition("=")
        if not equals:
            raise InvalidArgumentError(f"--grpc_channel_arguments: expected key=value, got {argument!r}")
        options.append((key, int(value) if value.lstrip("-").isdigit() else value))
    return options
