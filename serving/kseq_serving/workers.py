"""Worker threads that answer requests.

The event loop's thread only receives and sends. Parsing a request, running a model and writing the response may each
take long (a model may never end), and would hold up all other requests on that thread.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from kseq_serving.errors import Code, ServingError

MAX_WAITING_PER_THREAD = 64

ResultT = TypeVar("ResultT")


class _Job:
    """Unit of work, with the future of its result."""

    __slots__ = ("_loop", "_work", "client", "future")

    def __init__(self, work: Callable[[], Any], loop: asyncio.AbstractEventLoop, client: Hashable):
        self._work = work
        self.client = client
        self._loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()

    def run(self) -> None:
        """Do the work, on a worker thread."""
        try:
            result, error = self._work(), None
        except BaseException as caught:  # no failure of a job may end the thread
            result, error = None, caught
        self.finish(result, error)

    def finish(self, result: Any, error: BaseException | None) -> None:
        """Set the result or the error, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile, so nobody awaits the result
            self._loop.call_soon_threadsafe(self._finish, result, error)

    def _finish(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():  # it was cancelled
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class _Mailbox:
    """Slot through which one thread receives its next job."""

    __slots__ = ("_filled", "_job")

    def __init__(self) -> None:
        self._filled = threading.Lock()
        self._filled.acquire()
        self._job: _Job | None = None

    def put(self, job: _Job | None) -> None:
        """Wake the thread with a job, or with None to end it."""
        self._job = job
        self._filled.release()

    def wait(self) -> _Job | None:
        """Wait for the next job and return it; None to end the thread."""
        self._filled.acquire()
        job, self._job = self._job, None
        return job


class _Queue:
    """Jobs that wait. Clients take turns; the jobs of one client come in order."""

    def __init__(self) -> None:
        self._of_clients: collections.OrderedDict[Hashable, collections.deque[_Job]] = collections.OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, job: _Job) -> None:
        self._of_clients.setdefault(job.client, collections.deque()).append(job)
        self._size += 1

    def pop(self) -> _Job:
        """Remove and return the next job."""
        client, jobs = self._of_clients.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            self._of_clients[client] = jobs  # behind those of the other clients
        self._size -= 1
        return job

    def remove(self, job: _Job) -> None:
        """Remove a job, if it waits."""
        jobs = self._of_clients.get(job.client)
        if jobs and job in jobs:
            jobs.remove(job)
            self._size -= 1
            if not jobs:
                del self._of_clients[job.client]

    def make_room(self, client: Hashable) -> _Job | None:
        """Remove and return the newest job of the client with the most jobs; None if `client` has as many."""
        longest = max(self._of_clients.values(), key=len, default=None)
        if longest is None or len(longest) <= len(self._of_clients.get(client, ())) + 1:
            return None
        job = longest[-1]
        self.remove(job)
        return job

    def clear(self) -> None:
        self._of_clients.clear()
        self._size = 0


class Workers:
    """Bounded pool of threads that run calls. Clients take turns; the calls of one client come in order.

    If too many calls wait, the client with the most of them loses its newest one, so that no client can take the
    places of the others.

    A `ThreadPoolExecutor` has several times the overhead per call, and keeps cancelled calls in its queue.

    Args:
        threads: Number of calls that run at a time; threads are started when they are first needed.
        name: Name of the threads.
        max_waiting: Number of calls that may wait; None for `MAX_WAITING_PER_THREAD` per thread.

    Attributes:
        max_in_flight: Largest number of calls that run or wait.
    """

    def __init__(self, threads: int, *, name: str, max_waiting: int | None = None):
        self._threads = threads
        self._name = name
        self._max_waiting = threads * MAX_WAITING_PER_THREAD if max_waiting is None else max_waiting
        self.max_in_flight = threads + self._max_waiting
        self._lock = threading.Lock()
        self._waiting = _Queue()  # guarded by _lock
        self._idle: list[_Mailbox] = []  # guarded by _lock
        self._started = 0  # guarded by _lock
        self._stopped = False  # guarded by _lock

    @property
    def in_flight(self) -> int:
        """Number of calls that run or wait now."""
        with self._lock:
            return self._started - len(self._idle) + len(self._waiting)

    async def run(self, work: Callable[[], ResultT], client: Hashable = None) -> ResultT:
        """Run a call on one of the threads and return its result; if cancelled, the call leaves the queue.

        Args:
            work: The call.
            client: Connection that it comes from.

        Raises:
            ServingError: If too many calls wait already.
        """
        job = _Job(work, asyncio.get_running_loop(), client)
        self._hand_over(job)
        try:
            return await job.future
        except asyncio.CancelledError:
            with self._lock:
                self._waiting.remove(job)
            raise

    def stop(self) -> None:
        """End idle threads now and the others after their calls; drop the calls that wait."""
        with self._lock:
            self._stopped = True
            self._waiting.clear()
            idle, self._idle = self._idle, []
            self._started -= len(idle)
        for mailbox in idle:
            mailbox.put(None)

    def _hand_over(self, job: _Job) -> None:
        with self._lock:
            if self._idle:
                self._idle.pop().put(job)
                return
            if self._started >= self._threads:
                if len(self._waiting) >= self._max_waiting:
                    refused = ServingError(
                        Code.RESOURCE_EXHAUSTED,
                        f"{len(self._waiting)} requests wait already for {self._threads} threads. Try again later.",
                    )
                    pushed_out = self._waiting.make_room(job.client)
                    if pushed_out is None:
                        raise refused
                    pushed_out.finish(None, refused)
                self._waiting.add(job)
                return
            self._started += 1
        mailbox = _Mailbox()
        mailbox.put(job)
        try:
            threading.Thread(target=self._work, args=(mailbox,), name=self._name, daemon=True).start()
        except RuntimeError as error:
            with self._lock:
                self._started -= 1
            raise ServingError(
                Code.RESOURCE_EXHAUSTED, f"Cannot start another thread: {error}. Try again later."
            ) from error

    def _work(self, mailbox: _Mailbox) -> None:
        while (job := mailbox.wait()) is not None:
            job.run()
            del job  # an idle thread must not keep a request and its response in memory
            self._find_work(mailbox)

    def _find_work(self, mailbox: _Mailbox) -> None:
        with self._lock:
            if self._waiting:
                mailbox.put(self._waiting.pop())
            elif self._stopped:
                self._started -= 1
                mailbox.put(None)
            else:
                self._idle.append(mailbox)
