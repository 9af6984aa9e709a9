"""Worker threads that answer requests.

The threads that receive and send answer themselves only what is quick. Parsing a request, running a model and writing
the response may each take long (a model may never end), and would hold up all other requests on such a thread.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from kseq_serving import bounded_log
from kseq_serving.errors import Code, ServingError

MAX_WAITING_PER_THREAD = 64

_log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")


Finish = Callable[[Any, BaseException | None], None]
"""Function that takes the result of a job, or its error."""


class Job:
    """Unit of work.

    Args:
        work: The call.
        finish: Function that is called with its result or its error.
        client: Connection that it comes from.
    """

    __slots__ = ("_work", "client", "finish")

    def __init__(self, work: Callable[[], Any], finish: Finish, client: Hashable):
        self._work = work
        self.finish = finish
        self.client = client

    def run(self) -> None:
        """Do the work, on a worker thread."""
        try:
            result, error = self._work(), None
        except BaseException as caught:  # no failure of a job may end the thread
            result, error = None, caught
        try:
            self.finish(result, error)
        except Exception as failure:  # the thread has other calls to answer
            bounded_log.failure(_log, "An answer", failure)


class _Mailbox:
    """Slot through which one thread receives its next job."""

    __slots__ = ("_filled", "_job")

    def __init__(self) -> None:
        self._filled = threading.Lock()
        self._filled.acquire()
        self._job: Job | None = None

    def put(self, job: Job | None) -> None:
        """Wake the thread with a job, or with None to end it."""
        self._job = job
        self._filled.release()

    def wait(self) -> Job | None:
        """Wait for the next job and return it; None to end the thread."""
        self._filled.acquire()
        job, self._job = self._job, None
        return job


class _Queue:
    """Jobs that wait. Clients take turns; the jobs of one client come in order."""

    def __init__(self) -> None:
        self._of_clients: collections.OrderedDict[Hashable, collections.deque[Job]] = collections.OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, job: Job) -> None:
        self._of_clients.setdefault(job.client, collections.deque()).append(job)
        self._size += 1

    def pop(self) -> Job:
        """Remove and return the next job."""
        client, jobs = self._of_clients.popitem(last=False)
        job = jobs.popleft()
        if jobs:
            self._of_clients[client] = jobs  # behind those of the other clients
        self._size -= 1
        return job

    def remove(self, job: Job) -> bool:
        """Remove a job, and return whether it waited."""
        jobs = self._of_clients.get(job.client)
        if not jobs or job not in jobs:
            return False
        jobs.remove(job)
        self._size -= 1
        if not jobs:
            del self._of_clients[job.client]
        return True

    def make_room(self, client: Hashable) -> Job | None:
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
        self._occupied = 0  # places of calls on other threads; guarded by _lock
        self._stopped = False  # guarded by _lock

    @property
    def in_flight(self) -> int:
        """Number of calls that run or wait now."""
        with self._lock:
            return self._busy + len(self._waiting)

    @property
    def _busy(self) -> int:
        return self._started - len(self._idle) + self._occupied

    async def run(self, work: Callable[[], ResultT], client: Hashable = None) -> ResultT:
        """Run a call on one of the threads and return its result; if cancelled, the call leaves the queue.

        Args:
            work: The call.
            client: Connection that it comes from.

        Raises:
            ServingError: If too many calls wait already.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()

        def finish(result: Any, error: BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile, so nobody awaits the result
                loop.call_soon_threadsafe(_settle, future, result, error)

        job = self.start(work, finish, client)
        try:
            return await future
        except asyncio.CancelledError:
            self.cancel(job)
            raise

    def start(self, work: Callable[[], Any], finish: Finish, client: Hashable = None) -> Job:
        """Run a call on one of the threads.

        Args:
            work: The call.
            finish: Function that is called with its result or its error, on that thread, or on any thread if the call
                loses its place to another client.
            client: Connection that it comes from.

        Raises:
            ServingError: If too many calls wait already.
        """
        job = Job(work, finish, client)
        self._hand_over(job)
        return job

    def cancel(self, job: Job) -> bool:
        """Remove a call from the queue, and return whether it was there."""
        with self._lock:
            return self._waiting.remove(job)

    def occupy(self) -> bool:
        """Take the place of a thread for a call on the caller's own thread, and return whether one was free."""
        with self._lock:
            if self._busy >= self._threads:
                return False
            self._occupied += 1
            return True

    def leave(self) -> None:
        """Give back a place taken by `occupy`."""
        with self._lock:
            self._occupied -= 1
            job = self._waiting.pop() if self._waiting else None
            if job and self._idle:  # it came when all places were taken
                self._idle.pop().put(job)
                return
            self._started += bool(job)
        if job:
            try:
                self._start_thread(job)
            except ServingError as error:
                job.finish(None, error)

    def stop(self) -> None:
        """End idle threads now and the others after their calls; drop the calls that wait."""
        with self._lock:
            self._stopped = True
            self._waiting.clear()
            idle, self._idle = self._idle, []
            self._started -= len(idle)
        for mailbox in idle:
            mailbox.put(None)

    def _hand_over(self, job: Job) -> None:
        pushed_out = refused = None
        with self._lock:
            full = self._busy >= self._threads
            if not full and self._idle:
                self._idle.pop().put(job)
                return
            if full:
                if len(self._waiting) >= self._max_waiting:
                    refused = ServingError(
                        Code.RESOURCE_EXHAUSTED,
                        f"{len(self._waiting)} requests wait already for {self._threads} threads. Try again later.",
                    )
                    pushed_out = self._waiting.make_room(job.client)
                    if pushed_out is None:
                        raise refused
                self._waiting.add(job)
            else:
                self._started += 1
        if pushed_out:
            pushed_out.finish(None, refused)
        if not full:
            self._start_thread(job)

    def _start_thread(self, job: Job) -> None:
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


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():  # it was cancelled
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
