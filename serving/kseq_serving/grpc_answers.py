"""Answers of gRPC calls that their clients have not taken yet, bounded in bytes and time."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import time

import grpc

ANSWER_TIMEOUT_S = 120.0
MAX_ANSWERS_BYTES = 1 << 29
CALL_BYTES = 1 << 18  # that a call counts beside its answer, so that no more than 2,048 have theirs to send
MAX_ANSWERS = MAX_ANSWERS_BYTES // CALL_BYTES
_SWEEP_S = 1.0
_FOLDER = "/proc/self/fd"


class UnsentAnswers:
    """Answers that wait for their clients; used by the event loop's thread alone.

    The library keeps an answer until the client takes it or ends the connection, whatever the server does. So if there
    are too many, the connection with the most of them is closed, and so is one that does not take an answer in time.

    Args:
        limit: Most bytes that wait.
        timeout_s: Longest time that an answer waits, in seconds.
    """

    def __init__(self, limit: int, timeout_s: float):
        self._limit = limit
        self._timeout_s = timeout_s
        # For each connection, its calls, when the answer of each was ready, and the bytes that it counts; oldest first.
        self._waiting: dict[str, dict[grpc.aio.ServicerContext, tuple[float, int]]] = {}
        self._bytes: dict[str, int] = {}
        self._total = 0
        self._sweeps: asyncio.TimerHandle | None = None

    def add(self, context: grpc.aio.ServicerContext, answer: bytes) -> None:
        """Add the answer of a call, until the call ends."""
        # One enormous answer counts half the limit, and so leaves room for those of others.
        peer, size = context.peer(), min(CALL_BYTES + len(answer), self._limit // 2)
        self._waiting.setdefault(peer, {})[context] = time.monotonic(), size
        self._bytes[peer] = self._bytes.get(peer, 0) + size
        self._total += size
        context.add_done_callback(functools.partial(self._remove, peer))  # pyright: ignore[reportArgumentType]  # wrong stubs
        while self._total > self._limit:  # this connection may be the one with the most
            self._close(max(self._bytes, key=self._bytes.__getitem__))
        if self._sweeps is None:
            self._sweeps = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _remove(self, peer: str, context: grpc.aio.ServicerContext) -> None:
        waiting = self._waiting.get(peer, {})
        if context not in waiting:  # the connection was closed
            return
        _, size = waiting.pop(context)
        self._bytes[peer] -= size
        self._total -= size
        if not waiting:
            del self._waiting[peer], self._bytes[peer]

    def _close(self, peer: str) -> None:
        self._total -= self._bytes.pop(peer)
        del self._waiting[peer]
        close_connection(peer)

    def _sweep(self) -> None:
        """Close the connections that do not take an answer in time."""
        before = time.monotonic() - self._timeout_s
        for peer, waiting in list(self._waiting.items()):
            since, _ = next(iter(waiting.values()))
            if since < before:
                self._close(peer)
        self._sweeps = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep) if self._waiting else None


def close_connection(peer: str) -> None:
    """Close a connection of this process; one over a UNIX socket, whose clients have no names, stays open.

    Args:
        peer: Address of the client as the library writes it, such as `ipv4:127.0.0.1:40000`.
    """
    for name in os.listdir(_FOLDER):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as connection:
            if connection.family in (socket.AF_INET, socket.AF_INET6) and _written(connection) == peer:
                connection.shutdown(socket.SHUT_RDWR)


def _written(connection: socket.socket) -> str:
    host, port = connection.getpeername()[:2]
    host = host.removeprefix("::ffff:")  # IPv4 on a socket of IPv6
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"
