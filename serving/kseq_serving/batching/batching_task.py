"""Task: the run of one request in a batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping

import numpy as np

from kseq_serving.errors import Code, ServingError


class Task:
    """Run that waits for a batch.

    Args:
        feeds: Arrays by tensor name, each with `rows` rows.
        rows: Number of rows.
        timeout_s: Longest time to wait and run, in seconds; None for no limit.
    """

    def __init__(self, feeds: Mapping[str, np.ndarray], rows: int, timeout_s: float | None = None):
        self.feeds = feeds
        self.rows = rows
        self.queued = time.monotonic()
        self.deadline = float("inf") if timeout_s is None else self.queued + timeout_s
        self._outputs: Mapping[str, np.ndarray] = {}
        self._error: ServingError | None = None
        self._finished = threading.Lock()
        self._finished.acquire()

    def finish(self, outputs: Mapping[str, np.ndarray] | None = None, error: ServingError | None = None) -> None:
        """Set the outputs or the error, and wake the waiting thread; only the first call counts."""
        if self._finished.locked():
            self._outputs, self._error = outputs or {}, error
            self._finished.release()

    def wait(self) -> dict[str, np.ndarray]:
        """Wait until the task is finished, and return the outputs by tensor name.

        Raises:
            ServingError: If the run failed.
        """
        with self._finished:
            if self._error:
                # Several threads may raise the error of one batch, so each raises a copy with its own traceback.
                raise ServingError(self._error.code, self._error.message)
            return dict(self._outputs)

    def split(self, first: int, size: int) -> list[Task]:
        """Split the task into parts; it is finished when all of them are.

        Args:
            first: Most rows of the first part; 0 for `size`.
            size: Most rows of each other part.
        """
        bounds = list(_bounds(self.rows, first, size))
        whole = _Whole(self, len(bounds))
        return [_Part(whole, index, self, start, end) for index, (start, end) in enumerate(bounds)]


def _bounds(rows: int, first: int, size: int) -> Iterator[tuple[int, int]]:
    start = 0
    while start < rows:
        end = min(rows, start + (first if start == 0 and first else size))
        yield start, end
        start = end


class _Whole:
    """Task that was split, and the outputs of its parts so far."""

    def __init__(self, task: Task, parts: int):
        self._task = task
        self._lock = threading.Lock()
        self._left = parts
        self._outputs: list[Mapping[str, np.ndarray]] = [{}] * parts
        self._error: ServingError | None = None

    def put(self, index: int, outputs: Mapping[str, np.ndarray], error: ServingError | None) -> None:
        with self._lock:
            self._outputs[index] = outputs
            self._error = self._error or error
            self._left -= 1
            if self._left:
                return
        if self._error:
            self._task.finish(error=self._error)
            return
        try:
            joined = {name: np.concatenate([part[name] for part in self._outputs]) for name in self._outputs[0]}
        except ValueError as error_of_shape:
            self._task.finish(error=ServingError(Code.INVALID_ARGUMENT, f"Tensor concat failed: {error_of_shape}"))
            return
        self._task.finish(joined)


class _Part(Task):
    """Part of a task that was split."""

    def __init__(self, whole: _Whole, index: int, task: Task, start: int, end: int):
        super().__init__({name: array[start:end] for name, array in task.feeds.items()}, end - start)
        self.queued, self.deadline = task.queued, task.deadline
        self._whole, self._index, self._is_done = whole, index, False

    def finish(self, outputs: Mapping[str, np.ndarray] | None = None, error: ServingError | None = None) -> None:
        if not self._is_done:
            self._is_done = True
            self._whole.put(self._index, outputs or {}, error)
