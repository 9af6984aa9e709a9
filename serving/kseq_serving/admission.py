"""Places of calls that wait, such as those whose message has not come yet."""

from __future__ import annotations

import asyncio
import collections
import math
import time
from types import TracebackType

import grpc

from kseq_serving.errors import Code, ServingError

MAX_CALLS = 2048
MESSAGE_TIMEOUT_S = 120.0  # a message of 2 GiB comes with 18 MB/s or more
_SWEEP_S = 1.0

Context = grpc.aio.ServicerContext
_Task = asyncio.Task[None]


class Admission:
    """Bounded number of calls that wait, used by the event loop's thread alone.

    If there are too many, the oldest call of the connection with the most of them ends. A call that waits shortly is
    hardly ever among those, so clients that send only the beginning of calls cannot keep others out.

    Args:
        max_calls: Most calls that wait.
        timeout_s: Longest time that a call waits, in seconds.
    """

    def __init__(self, max_calls: int, timeout_s: float = math.inf):
        self._max_calls = max_calls
        self._timeout_s = timeout_s
        # For each connection, the tasks that wait and when each began, oldest first.
        self._waiting: dict[str, collections.OrderedDict[_Task, float]] = {}
        self._count = 0
        self._ended: dict[_Task, ServingError] = {}
        self._sweeps: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return self._count

    def place(self, peer: str) -> _Place:
        """Return a context manager for the time that this task waits; it raises `ServingError` if it must end.

        Args:
            peer: Connection of the call.
        """
        return _Place(self, peer)

    async def receive(self, context: Context) -> bytes:
        """Return the message of a call.

        Raises:
            ServingError: If it does not come, or does not come in time.
        """
        with self.place(context.peer()):
            data = await context.read()
        if not isinstance(data, bytes):
            raise ServingError(Code.INTERNAL, "")  # the client sent no message
        return data

    def enter(self, peer: str, task: _Task) -> None:
        """Give a task a place."""
        if self._count >= self._max_calls:
            self._end_oldest()
        self._waiting.setdefault(peer, collections.OrderedDict())[task] = time.monotonic()
        self._count += 1
        if self._sweeps is None and self._timeout_s < math.inf:
            self._sweeps = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def leave(self, peer: str, task: _Task) -> ServingError | None:
        """Take a task's place, and return the error that it must end with, if any."""
        self._forget(peer, task)
        return self._ended.pop(task, None)

    def _forget(self, peer: str, task: _Task) -> None:
        waiting = self._waiting.get(peer)
        if waiting and waiting.pop(task, None) is not None:
            self._count -= 1
            if not waiting:
                del self._waiting[peer]

    def _end_oldest(self) -> None:
        peer, waiting = max(self._waiting.items(), key=lambda item: len(item[1]))
        text = f"{self._count} calls wait for their clients already. Try again later."
        self._end(peer, next(iter(waiting)), ServingError(Code.RESOURCE_EXHAUSTED, text))

    def _end(self, peer: str, task: _Task, error: ServingError) -> None:
        self._forget(peer, task)
        self._ended[task] = error
        task.cancel()

    def _sweep(self) -> None:
        """End the calls that wait too long."""
        begun_before = time.monotonic() - self._timeout_s
        for peer, waiting in list(self._waiting.items()):
            while waiting and (begun := next(iter(waiting.items())))[1] < begun_before:
                text = f"The message of the call did not come within {self._timeout_s:g} s."
                self._end(peer, begun[0], ServingError(Code.DEADLINE_EXCEEDED, text))
        self._sweeps = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep) if self._waiting else None


class _Place:
    def __init__(self, admission: Admission, peer: str):
        task = asyncio.current_task()
        assert task is not None  # a handler runs in a task
        self._admission, self._peer, self._task = admission, peer, task

    def __enter__(self) -> None:
        self._admission.enter(self._peer, self._task)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ended = self._admission.leave(self._peer, self._task)
        if ended is not None:
            self._task.uncancel()
            raise ended from None
