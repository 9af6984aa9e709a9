"""Connections of the server of plain requests."""

from __future__ import annotations

import collections
import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator

from kseq_serving.budget import Budget
from kseq_serving.errors import ServingError
from kseq_serving.rest import plain_http
from kseq_serving.rest.api import HttpRequest
from kseq_serving.workers import Job

_NO_MORE = select.EPOLLRDHUP | select.EPOLLONESHOT  # tells once that a client sends nothing more


class Connection:
    """Connection of a client.

    Attributes:
        socket: Its socket.
        head: Head of its last request.
        received: Bytes of a request that is not whole.
        since: Time at which the connection began to wait for a request, or the request to come.
        job: What answers its request; None while it waits for one.
        ends_at: Time until which a client that sends nothing more may be answered.
        held: Bytes of the budget.
        is_abandoned: Whether its client has gone before the answer.
    """

    __slots__ = ("ends_at", "fd", "head", "held", "is_abandoned", "job", "received", "since", "socket")

    def __init__(self, accepted: socket.socket):
        self.socket = accepted
        self.fd = accepted.fileno()
        self.head: plain_http.Head | None = None
        self.received = b""
        self.since = time.monotonic()
        self.job: Job | HttpRequest | None = None
        self.ends_at: float | None = None
        self.held = 0
        self.is_abandoned = False

    def shut(self) -> None:
        """End the connection, whose socket other threads may use: the leader will find it closed."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class Connections:
    """Open connections, and what they wait for; usable from any thread.

    Args:
        bodies: Budget for the bytes of the requests that are not answered.

    Attributes:
        lock: Lock of all that a thread changes on a connection with a request in progress.
        poll: Tells what the connections send.
    """

    def __init__(self, bodies: Budget):
        self.lock = threading.RLock()
        self.poll = select.epoll()
        self._bodies = bodies
        self._open: dict[int, Connection] = {}
        # In the order in which they began to wait.
        self._order: collections.OrderedDict[Connection, None] = collections.OrderedDict()  # guarded by lock

    def __len__(self) -> int:
        return len(self._open)

    @property
    def kept(self) -> int:
        """Number of connections that are not being ended."""
        return len(self._order)

    def __contains__(self, connection: Connection) -> bool:
        return self._open.get(connection.fd) is connection

    def __iter__(self) -> Iterator[Connection]:
        with self.lock:
            return iter(list(self._open.values()))

    def of(self, fd: int) -> Connection | None:
        """Return the connection of a file descriptor."""
        return self._open.get(fd)

    @property
    def in_progress(self) -> int:
        """Number of requests whose clients wait for an answer."""
        return sum(connection.job is not None and not connection.is_abandoned for connection in self)

    def add(self, accepted: socket.socket) -> None:
        """Add a new connection."""
        connection = Connection(accepted)
        with self.lock:
            self._open[connection.fd] = connection
            self._order[connection] = None
            self.poll.register(connection.fd, select.EPOLLIN)

    def forget(self, connection: Connection) -> bool:
        """Remove a connection, and return whether it was there."""
        with self.lock:
            if connection not in self:
                return False
            del self._open[connection.fd]
            self._order.pop(connection, None)
            self.poll.unregister(connection.fd)
            self._release(connection)
            return True

    def close(self, connection: Connection) -> None:
        """Remove and close a connection; only for the leader, or when there is none."""
        if self.forget(connection):
            connection.socket.close()

    def hold(self, connection: Connection, size: int) -> bool:
        """Take bytes from the budget; return False if fewer are left, so that the request will be refused."""
        try:
            self._bodies.take(size - connection.held)
        except ServingError:
            return False
        connection.held = size
        return True

    def _release(self, connection: Connection) -> None:
        self._bodies.give_back(connection.held)
        connection.held = 0

    def await_end(self, connection: Connection) -> None:
        """While a request is in progress, tell only once that its client sends nothing more."""
        self.poll.modify(connection.fd, _NO_MORE)

    def rest(self, connection: Connection) -> None:
        """Let a connection wait for its next request."""
        with self.lock:
            self._release(connection)
            connection.job = connection.ends_at = None
            connection.since = time.monotonic()
            if connection in self._order:
                self._order.move_to_end(connection)

    def listen_again(self, connection: Connection) -> None:
        """Hand a connection back to the leader after `await_end`, from any thread."""
        with self.lock:
            self.rest(connection)
            if connection in self:
                self.poll.modify(connection.fd, select.EPOLLIN)

    def begin_request(self, connection: Connection) -> None:
        """Let a connection wait for the rest of a request."""
        with self.lock:
            connection.since = time.monotonic()
            if connection in self._order:
                self._order.move_to_end(connection)

    def waiting_since(self) -> float | None:
        """Return the time since which a connection waits for its client, of the one that waits longest."""
        with self.lock:
            oldest = self._oldest()
            return oldest and oldest.since

    def end_oldest(self) -> None:
        """End the connection that waits longest for a request, or for its rest."""
        with self.lock:
            if oldest := self._oldest():
                del self._order[oldest]
                oldest.shut()

    def _oldest(self) -> Connection | None:
        oldest = next((one for one in self._order if one.job is None), None)
        return oldest if oldest is not next(reversed(self._order), None) else None  # a new one stays
