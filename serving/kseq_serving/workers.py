"""Threads that calls are handed to by the one thread that serves the network.

The network's thread only receives and sends. To read a request, to run a model and to write the answer may each take
long, for ever if the model does not end, and whoever does it would hold up all other calls.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from kseq_serving.errors import Code, ServingError

MAX_WAITING_PER_THREAD = 64

ResultT = TypeVar("ResultT")


class _Job:
    """A call, and the future that whoever waits for it awaits."""

    __slots__ = ("_loop", "_work", "future")

    def __init__(self, work: Callable[[], Any], loop: asyncio.AbstractEventLoop):
        self._work = work
        self._loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()

    def run(self) -> None:
        """Does the work, on a worker's thread."""
        try:
            result, error = self._work(), None
        except BaseException as caught:  # The thread must outlive whatever a call does to it.
            result, error = None, caught
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            self._loop.call_soon_threadsafe(self._finish, result, error)

    def _finish(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():  # whoever waited has gone
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class _Thread:
    """What a thread gets its next job by."""

    __slots__ = ("_given", "_job")

    def __init__(self) -> None:
        self._given = threading.Lock()
        self._given.acquire()
        self._job: _Job | None = None

    def give(self, job: _Job | None) -> None:
        """Wakes the thread; without a job it ends."""
        self._job = job
        self._given.release()

    def wait(self) -> _Job | None:
        """The job, once there is one."""
        self._given.acquire()
        job, self._job = self._job, None
        return job


class Workers:
    """Runs calls on a few threads, first come, first served.

    An executor would do, but a call costs a multiple there, and one that nobody waits for any more stays in its queue.

    Args:
        threads: how many calls run at a time; a thread is started when it is first needed.
        name: of the threads.
        max_waiting: how many more calls may wait; None for ``MAX_WAITING_PER_THREAD`` a thread.

    Attributes:
        max_in_flight: how many calls may run and wait.
    """

    def __init__(self, threads: int, *, name: str, max_waiting: int | None = None):
        self._threads = threads
        self._name = name
        self._max_waiting = threads * MAX_WAITING_PER_THREAD if max_waiting is None else max_waiting
        self.max_in_flight = threads + self._max_waiting
        self._lock = threading.Lock()
        self._waiting: collections.deque[_Job] = collections.deque()  # guarded by _lock
        self._idle: list[_Thread] = []  # guarded by _lock
        self._started = 0  # guarded by _lock
        self._stopped = False  # guarded by _lock

    @property
    def in_flight(self) -> int:
        """How many calls run or wait now."""
        with self._lock:
            return self._started - len(self._idle) + len(self._waiting)

    async def run(self, work: Callable[[], ResultT]) -> ResultT:
        """Runs a call on one of the threads; cancelled, it leaves the queue.

        Raises:
            ServingError: too many calls wait already.
        """
        job = _Job(work, asyncio.get_running_loop())
        self._hand_over(job)
        try:
            return await job.future
        except asyncio.CancelledError:
            with self._lock, contextlib.suppress(ValueError):  # it runs already
                self._waiting.remove(job)
            raise

    def stop(self) -> None:
        """Ends the threads that are idle, and the others behind their calls; what waits is dropped."""
        with self._lock:
            self._stopped = True
            self._waiting.clear()
            idle, self._idle = self._idle, []
            self._started -= len(idle)
        for thread in idle:
            thread.give(None)

    def _hand_over(self, job: _Job) -> None:
        with self._lock:
            if self._idle:
                self._idle.pop().give(job)
                return
            if self._started >= self._threads:
                if len(self._waiting) >= self._max_waiting:
                    raise ServingError(
                        Code.RESOURCE_EXHAUSTED,
                        f"{len(self._waiting)} requests wait already for {self._threads} threads. Try again later.",
                    )
                self._waiting.append(job)
                return
            self._started += 1
        thread = _Thread()
        thread.give(job)
        try:
            threading.Thread(target=self._work, args=(thread,), name=self._name, daemon=True).start()
        except RuntimeError as error:
            with self._lock:
                self._started -= 1
            raise ServingError(Code.RESOURCE_EXHAUSTED, f"No thread can be had: {error}. Try again later.") from error

    def _work(self, thread: _Thread) -> None:
        while (job := thread.wait()) is not None:
            job.run()
            del job  # an idle thread must not keep a request and its answer
            self._find_work(thread)

    def _find_work(self, thread: _Thread) -> None:
        with self._lock:
            if self._waiting:
                thread.give(self._waiting.popleft())
            elif self._stopped:
                self._started -= 1
                thread.give(None)
            else:
                self._idle.append(thread)
