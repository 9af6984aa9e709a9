"""Server of plain requests on bare sockets, without an event loop.

One thread, the leader, waits for all connections and receives their requests. Those whose answers are quick it answers
itself: waking another thread would take longer. If an answer takes longer than `PATIENCE_S` after all, another thread
becomes the leader, so no model holds up the network. Other requests wait for the worker threads. A connection that
sends anything else than plain requests is given away, with what it has sent.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from kseq_serving import bounded_log
from kseq_serving.errors import Code, ServingError
from kseq_serving.rest import plain_http
from kseq_serving.rest.api import HttpRequest, HttpResponse, RestApi
from kseq_serving.rest.plain_connections import Connection, Connections
from kseq_serving.rest.quick_paths import QuickPaths
from kseq_serving.workers import Job, Workers

OK = 200
PATIENCE_S = 0.005  # after one to two of these, another thread becomes the leader
MAX_BODY_BYTES = 64 * 2**10
MAX_QUICK_BYTES = 4 * 2**10  # longest body that the leader parses itself
MAX_ANSWER_BYTES = 64 * 2**10  # longest answer that is sent from here; a client may take long to receive more
PARTIAL_S = 1.0  # longest time that a request may come in pieces before its connection is given away
_READ_BYTES = 64 * 2**10
_MAX_EVENTS = 256
_MAX_ACCEPTED = 64  # connections at a time
_SWEEP_S = 0.25
_DOZE = 100  # checks without an answer by the leader after which the watch sleeps

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Given:
    """What happened on a connection that is given away.

    Attributes:
        received: Bytes that the client sent.
        response: Response to these, if it is known.
        unsent: Rest of the response before.
    """

    received: bytes = b""
    response: HttpResponse | None = None
    unsent: bytes = b""


class PlainServer:
    """Server of plain requests.

    Args:
        listener: Socket that listens.
        api: REST API that answers the requests.
        workers: Threads that answer requests.
        connections: Where the connections are kept.
        give_away: Function that takes connections over; called from any thread.
        make_room: Function that is called for each new connection, with how many must end at least.
        at_once: Whether the leader answers quick requests itself.
        half_closed_s: Longest time to answer a client that sends nothing more, in seconds.
        idle_s: Longest time that a connection may wait for a request, in seconds.
    """

    def __init__(
        self,
        listener: socket.socket,
        api: RestApi,
        workers: Workers,
        connections: Connections,
        *,
        give_away: Callable[[socket.socket, Given], None],
        make_room: Callable[[int], None],
        at_once: bool,
        half_closed_s: float,
        idle_s: float,
    ):
        self._listener = listener
        self._api, self._workers, self._connections = api, workers, connections
        self._give_away, self._make_room = give_away, make_room
        self._at_once, self._half_closed_s, self._idle_s = at_once, half_closed_s, idle_s
        self._quick = QuickPaths()
        self._lock, self._poll = connections.lock, connections.poll
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._ready: collections.deque[tuple[int, int]] = collections.deque()  # used by the leader alone
        self._next_sweep = 0.0
        self._leader: threading.Thread | None = None
        self._here: tuple[Connection, HttpRequest] | None = None  # what the leader answers; guarded by _lock
        self._dozes = False
        self._rouse = threading.Semaphore(0)
        self._stopping = False
        self._is_full = False  # whether there are too many open files to accept connections

    def start(self) -> None:
        """Begin to accept connections."""
        listener = self._listener
        listener.setblocking(False)
        self._poll.register(listener.fileno(), select.EPOLLIN)
        self._poll.register(self._wake, select.EPOLLIN)
        self._leader = threading.Thread(target=self._lead, name="rest-leader", daemon=True)
        self._leader.start()
        threading.Thread(target=self._watch, name="rest-watch", daemon=True).start()

    def stop_accepting(self) -> None:
        """Close the port, and give away the connections that send another request."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            leader, self._leader = self._leader, None
        os.eventfd_write(self._wake, 1)
        self._rouse.release()
        if leader and leader.ident is not None:  # one that replaces another may not have been started yet
            leader.join(_SWEEP_S)
        self._listener.close()
        for connection in self._connections:
            self._connections.close(connection)

    def _lead(self) -> None:
        me = threading.current_thread()
        while self._leader is me:
            fd = -1
            try:
                if not self._ready:
                    self._wait()
                    continue
                fd, event = self._ready.popleft()
                self._handle(fd, event)
            except Exception as error:  # no failure of a request may end the thread
                bounded_log.failure(_log, "A connection", error)
                if connection := self._connections.of(fd):
                    self._connections.close(connection)

    def _handle(self, fd: int, event: int) -> None:
        connection = self._connections.of(fd)
        if connection is not None:
            if connection.job is None:
                self._receive(connection)
            else:
                self._look(connection, event)
        elif fd == self._listener.fileno():
            self._accept()
        elif fd == self._wake:
            self._awake()

    def _wait(self) -> None:
        """Wait for what the connections send."""
        now = time.monotonic()
        if now >= self._next_sweep:
            self._sweep(now)
            self._next_sweep = now + _SWEEP_S
            if self._is_full:
                self._is_full = False
                self._poll.modify(self._listener, select.EPOLLIN)
        wait_s = _SWEEP_S if self._connections or self._is_full else None
        self._ready.extend(self._poll.poll(wait_s, _MAX_EVENTS))

    def _awake(self) -> None:
        os.eventfd_read(self._wake)
        self._is_full = False
        if self._listener.fileno() >= 0:
            self._poll.unregister(self._listener)
            self._listener.close()

    def _accept(self) -> None:
        for _ in range(_MAX_ACCEPTED):
            try:
                accepted, _address = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:  # too many open files: room for one, and a pause
                self._make_room(1)
                self._poll.modify(self._listener, 0)
                self._is_full = True
                return
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._connections.add(accepted)
            self._make_room(0)

    def _receive(self, connection: Connection) -> None:
        """Receive what an idle connection sends."""
        try:
            data = connection.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._connections.close(connection)
            return
        is_first = not connection.received
        if not is_first:
            data = connection.received + data
        head = connection.head
        if head is None or not data.startswith(head.text):
            connection.head = head = plain_http.read_head(data)
        if (
            head is None
            or head.length > MAX_BODY_BYTES
            or len(data) > head.size
            or self._stopping
            or not self._connections.hold(connection, len(data))
        ):
            self._pass_on(connection, Given(data))
        elif len(data) < head.size:
            connection.received = data
            if is_first:
                self._connections.begin_request(connection)
        else:
            connection.received = b""
            self._begin(connection, head, data)

    def _begin(self, connection: Connection, head: plain_http.Head, data: bytes) -> None:
        request = head.request(data)
        is_short = self._at_once and head.length <= MAX_QUICK_BYTES
        if is_short and self._quick.try_next(head.path) and self._workers.occupy():
            self._answer_here(connection, request, data)
            return

        def finish(response: Any, error: BaseException | None) -> None:
            self._respond(connection, data, response if error is None else self._failed(request, error))
            self._connections.listen_again(connection)

        try:
            with self._lock:  # the job may be finished before this thread knows it
                connection.job = request
                self._connections.await_end(connection)
                job = self._workers.start(functools.partial(self._api.answer, request), finish, connection)
                if connection.job is request:
                    connection.job = job
        except ServingError as error:
            finish(None, error)

    def _answer_here(self, connection: Connection, request: HttpRequest, data: bytes) -> None:
        """Answer a quick request on this thread, which may be the leader no longer when it is answered."""
        if self._dozes:
            self._dozes = False
            self._rouse.release()
        connection.job = request
        here = self._here = connection, request
        started = time.perf_counter()
        try:
            response = self._api.answer(request)
        except Exception as error:
            response = self._failed(request, error)
        seconds = time.perf_counter() - started
        self._workers.leave()
        with self._lock:
            still_leads = self._here is here
            if still_leads:
                self._here = None
                if response.status == OK or self._quick.knows(request.path):  # those that clients invent are not kept
                    self._quick.note(request.path, seconds)
        self._respond(connection, data, response)
        if still_leads:
            self._connections.rest(connection)
        else:
            self._connections.listen_again(connection)

    def _failed(self, request: HttpRequest, error: BaseException) -> HttpResponse:
        if not isinstance(error, ServingError):
            error = ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")
        return self._api.refuse(request, error)

    def _respond(self, connection: Connection, data: bytes, response: HttpResponse) -> None:
        """Send a response, or give the connection away if the client does not take all of it at once."""
        if connection not in self._connections:
            return
        if response.close or len(response.body) > MAX_ANSWER_BYTES:
            self._pass_on(connection, Given(data, response))
            return
        text = plain_http.write(response)
        try:
            sent = connection.socket.send(text)
        except BlockingIOError:
            sent = 0
        except OSError:  # the client has gone, which the leader will notice
            return
        if sent < len(text):
            self._pass_on(connection, Given(unsent=text[sent:]))

    def _look(self, connection: Connection, event: int) -> None:
        """See whether the client of a request in progress has gone."""
        with self._lock:
            if connection.job is None:
                return
            if event & (select.EPOLLHUP | select.EPOLLERR):
                self._abandon(connection)
            else:
                connection.ends_at = time.monotonic() + self._half_closed_s

    def _abandon(self, connection: Connection) -> None:
        """End the connection of a client that has gone; its request leaves the queue."""
        connection.shut()
        connection.is_abandoned = True
        job = connection.job
        if isinstance(job, Job) and self._workers.cancel(job):
            self._connections.close(connection)

    def _sweep(self, now: float) -> None:
        """End what has lasted too long."""
        with self._lock:
            for connection in self._connections:
                waited = now - connection.since
                if connection.job is not None:
                    if connection.ends_at is not None and now >= connection.ends_at:
                        self._abandon(connection)
                elif connection.received and waited > PARTIAL_S:
                    self._pass_on(connection, Given(connection.received))
                elif waited > self._idle_s:
                    self._connections.close(connection)

    def _pass_on(self, connection: Connection, given: Given) -> None:
        if self._connections.forget(connection):
            self._give_away(connection.socket, given)

    def _watch(self) -> None:
        """Replace a leader that takes long to answer a request."""
        before, checks = None, 0
        while self._leader is not None:
            time.sleep(PATIENCE_S)
            here = self._here
            if here is not None and here is before:
                self._replace_leader(*here)
            checks = 0 if here is not None else checks + 1
            before = here
            if checks > _DOZE:
                self._dozes = True
                if self._here is None:  # else the leader may not have seen that nobody watches it
                    self._rouse.acquire()
                self._dozes = False
                checks = 0

    def _replace_leader(self, connection: Connection, request: HttpRequest) -> None:
        with self._lock:
            if self._leader is None or self._here is None or self._here[1] is not request:
                return
            self._here = None
            self._connections.await_end(connection)
            self._quick.distrust(request.path)
            self._leader = leader = threading.Thread(target=self._lead, name="rest-leader", daemon=True)
        while self._leader is leader:
            try:
                leader.start()
                return
            except RuntimeError:  # the system has no thread left
                time.sleep(PATIENCE_S)
