"""Scheduler that collects requests into batches, and runs these on threads that all models share.

Requests that may share a batch wait in one queue. The last batch of a queue accepts more requests. A batch is due when
a later batch of its queue exists, when it is full, or when its oldest request has waited for the timeout. It waits on
while as many batches of its queue run as may at once, and takes more requests meanwhile; a batch that runs for long no
longer counts, so that one that never ends does not stop its queue while there are other threads. Queues take turns. An
empty queue is removed, so that clients cannot make the server hold many of them.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Hashable

from kseq_serving import bounded_log
from kseq_serving.batching.batching_options import BatchingOptions
from kseq_serving.batching.batching_task import Task
from kseq_serving.errors import Code, InvalidArgumentError, ServingError

Process = Callable[[list[Task]], None]
"""Function that runs a batch and finishes every task in it."""

LONG_RUN_S = 5.0  # time after which a run no longer keeps others of its kind waiting

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class _Batch:
    tasks: list[Task] = dataclasses.field(default_factory=list)
    rows: int = 0
    opened: float = 0.0

    def add(self, task: Task) -> None:
        if not self.tasks:
            self.opened = time.monotonic()
        self.tasks.append(task)
        self.rows += task.rows


class _Queue:
    """Batches that wait for one kind of run; guarded by the scheduler's lock."""

    def __init__(self, options: BatchingOptions, process: Process):
        self.options = options
        self.process = process
        self.batches = collections.deque([_Batch()])

    def add(self, task: Task) -> None:
        """Put a task, or its parts, into the last batch and new ones behind it.

        Raises:
            ServingError: If the task is too large, or the queue is full.
        """
        self._check(task)
        free = self.options.batch_rows - self.batches[-1].rows
        for part in (
            [task]
            if task.rows <= free or self.options.split_rows is None
            else task.split(free, self.options.batch_rows)
        ):
            if self.batches[-1].rows + part.rows > self.options.batch_rows:
                self.batches.append(_Batch())
            self.batches[-1].add(part)

    def due_in(self, now: float) -> float:
        """Return the time until the first batch is due, in seconds."""
        first = self.batches[0]
        if len(self.batches) > 1 or first.rows >= self.options.batch_rows:
            return 0.0
        return max(0.0, first.opened + self.options.timeout_s - now)

    def _check(self, task: Task) -> None:
        options, last = self.options, self.batches[-1]
        if task.rows > options.max_rows:
            raise InvalidArgumentError(
                f"Task size {task.rows} is larger than maximum input batch size {options.max_rows}"
            )
        full = "The batch scheduling queue to which this task was submitted is full; "
        if options.split_rows is not None:
            capacity = (options.max_queued_batches - len(self.batches) + 1) * options.split_rows - last.rows
            if task.rows > capacity:
                raise ServingError(
                    Code.UNAVAILABLE,
                    f"{full}task size is {task.rows} but scheduling capacity is only {capacity} "
                    f"(num_enqueued_batches={len(self.batches)}, max_enqueued_batches={options.max_queued_batches}, "
                    f"open_batch_size={last.rows}, max_execution_batch_size={options.split_rows})",
                )
        elif last.rows + task.rows > options.max_rows and len(self.batches) >= options.max_queued_batches:
            raise ServingError(
                Code.UNAVAILABLE,
                f"{full}currently {len(self.batches)} batches enqueued and max_enqueued_batches is "
                f"{options.max_queued_batches}",
            )


class BatchScheduler:
    """Threads that run batches, and the queues of all models.

    Args:
        threads: Number of batches that run at a time.
        at_once: Number of batches of one kind that run at a time, without those that have run for `LONG_RUN_S`; None
            for `threads`.
    """

    def __init__(self, threads: int, *, at_once: int | None = None):
        self._at_once = threads if at_once is None else at_once
        self._changed = threading.Condition()
        self._queues: collections.OrderedDict[Hashable, _Queue] = collections.OrderedDict()  # guarded by _changed
        self._started: dict[Hashable, list[float]] = {}  # times of running batches by kind; guarded by _changed
        for index in range(threads):
            threading.Thread(target=self._run, name=f"batch-{index}", daemon=True).start()

    def schedule(self, kind: Hashable, task: Task, options: BatchingOptions, process: Process) -> None:
        """Put a task into the queue of its kind; another thread runs and finishes it later.

        Args:
            kind: Key of the queue; tasks of one kind may share a batch.
            task: Task to run.
            options: Batching options of this kind.
            process: Function that runs a batch of this kind.

        Raises:
            ServingError: If the task is too large, or the queue is full.
        """
        with self._changed:
            queue = self._queues.get(kind) or _Queue(options, process)
            queue.add(task)
            self._queues[kind] = queue
            self._changed.notify()

    def _run(self) -> None:
        while True:
            kind, queue, batch, started = self._next()
            try:
                queue.process(batch.tasks)
            except Exception as error:  # no failure of a batch may end the thread
                bounded_log.failure(_log, "A batch", error)
                for task in batch.tasks:
                    task.finish(error=ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}"))
            self._end(kind, started)

    def _next(self) -> tuple[Hashable, _Queue, _Batch, float]:
        """Wait for a batch that is due, take it from its queue, and note the time."""
        with self._changed:
            while True:
                now, wait_s = time.monotonic(), None
                for kind, queue in self._queues.items():
                    due_in = max(queue.due_in(now), self._free_in(kind, now))
                    if not due_in:
                        self._started.setdefault(kind, []).append(now)
                        return kind, queue, self._take(kind, queue), now
                    wait_s = due_in if wait_s is None else min(wait_s, due_in)
                self._changed.wait(wait_s)

    def _free_in(self, kind: Hashable, now: float) -> float:
        """Return the time until one more batch of this kind may run even if none ends before, in seconds."""
        recent = self._started.get(kind, [])[-self._at_once :]  # ascending
        return max(0.0, recent[0] + LONG_RUN_S - now) if len(recent) == self._at_once else 0.0

    def _take(self, kind: Hashable, queue: _Queue) -> _Batch:
        batch = queue.batches.popleft()
        if queue.batches:
            self._queues.move_to_end(kind)
            self._changed.notify()  # the next batch may be due too
        else:
            del self._queues[kind]
        return batch

    def _end(self, kind: Hashable, started: float) -> None:
        with self._changed:
            self._started[kind].remove(started)
            if not self._started[kind]:
                del self._started[kind]
