"""Addresses that the server listens at, the check that they are free, and how many connections each may have."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

from kseq_serving.errors import Code, ServingError
from kseq_serving.flags import Flags

GRPC_HOST = "0.0.0.0"
REST_HOST = "127.0.0.1"
MAX_CONNECTIONS = 4096

_CONNECT_S = 1.0


def max_connections() -> int:
    """Return how many connections each protocol may have, which leaves file descriptors to the models."""
    return min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 8)


def check_free(flags: Flags) -> None:
    """Refuse addresses that cannot be used, before the minutes in which models are loaded.

    The addresses are free again afterwards, so that clients get no connection before the models are available. If
    another process takes one meanwhile, the server ends when it starts to listen.

    Raises:
        ServingError: If a port or the UNIX socket is in use, or may not be used.
    """
    if flags.port:
        _check_port("gRPC", f"{GRPC_HOST}:{flags.port}", GRPC_HOST, flags.port)
    if flags.grpc_socket_path:
        _check_socket(flags.grpc_socket_path)
    if flags.rest_api_port:
        _check_port("REST", f"localhost:{flags.rest_api_port}", REST_HOST, flags.rest_api_port)


@contextlib.contextmanager
def kept(flags: Flags) -> Iterator[None]:
    """Keep other servers of several processes, which could all listen at one port, from the TCP ports.

    Each port number has a UNIX socket, which one process can have.

    Raises:
        ServingError: If another server of several processes has a port.
    """
    with contextlib.ExitStack() as sockets:
        for protocol, host, port in (("gRPC", GRPC_HOST, flags.port), ("REST", "localhost", flags.rest_api_port)):
            try:
                if port:
                    sockets.enter_context(socket.socket(socket.AF_UNIX)).bind(f"\0kseq-serve at port {port}")
            except OSError as error:
                raise cannot_listen(protocol, f"{host}:{port}", os.strerror(error.errno or 0)) from error
        yield


def cannot_listen(protocol: str, address: str, reason: str) -> ServingError:
    """Return the error for an address that cannot be used."""
    return ServingError(Code.UNAVAILABLE, f"{protocol} cannot listen at {address}: {reason}")


def _check_port(protocol: str, address: str, host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do, after a restart
        try:
            probe.bind((host, port))
        except OSError as error:
            raise cannot_listen(protocol, address, os.strerror(error.errno or 0)) from error


def _check_socket(path: str) -> None:
    """Refuse a socket at which another process answers, because gRPC would take it over without a word."""
    reason = ""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_S)
        try:
            probe.connect(path)
            reason = os.strerror(errno.EADDRINUSE)
        except ConnectionRefusedError:
            # A socket left over by a server that has ended is replaced, another file is not.
            reason = "" if Path(path).is_socket() else "it is another file"
        except FileNotFoundError:
            reason = "" if Path(path).absolute().parent.is_dir() else "there is no such folder"
        except OSError as error:  # such as a path that is too long
            reason = error.strerror or str(error)
    if reason:
        raise cannot_listen("gRPC", f"unix:{path}", reason)
