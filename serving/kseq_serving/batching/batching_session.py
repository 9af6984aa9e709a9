"""Session whose runs share batches with runs of other threads."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

import numpy as np

from kseq_serving import bounded_log
from kseq_serving.batching import batch_arrays
from kseq_serving.batching.batch_scheduler import BatchScheduler
from kseq_serving.batching.batching_options import BatchingOptions
from kseq_serving.batching.batching_task import Task
from kseq_serving.errors import Code, ServingError
from kseq_serving.metrics import Metrics
from kseq_serving.models.session import ModelSession
from kseq_serving.protocol.protos import SignatureDef

_log = logging.getLogger(__name__)

# Codes that say nothing about the data of a request.
_CODES_OF_TIME = frozenset((Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.UNAVAILABLE))


class _DataError(ServingError):
    """Error of a run that the data of a single request may have caused."""


class BatchingSession:
    """Session that batches runs which feed and fetch the same tensors, with arrays that can be merged.

    A run without rows is not batched, since it would wait for a batch that it cannot fill.

    Args:
        session: Session that runs the batches.
        options: Batching options.
        scheduler: Scheduler whose threads run the batches.
        metrics: Metrics that count requests and batches.
    """

    def __init__(self, session: ModelSession, options: BatchingOptions, scheduler: BatchScheduler, metrics: Metrics):
        self._session = session
        self._options = options
        self._scheduler = scheduler
        self._metrics = metrics

    @property
    def signatures(self) -> Mapping[str, SignatureDef]:
        """Signatures by name."""
        return self._session.signatures

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> dict[str, np.ndarray]:
        """Run the graph in a batch.

        Args:
            feeds: Arrays by tensor name, all with the same number of rows.
            fetches: Tensor names.
            timeout_s: Longest time to wait and run, in seconds; None for no limit.

        Returns:
            The fetched arrays by tensor name, with this run's rows only.

        Raises:
            ServingError: If the run does not fit into a batch, the queue is full, or the run failed.
        """
        rows = batch_arrays.count_rows(feeds)
        self._metrics.batch_input(rows, len(feeds))
        if not rows:
            return self._session.run(feeds, fetches, timeout_s=timeout_s)
        task = Task(feeds, rows, timeout_s)
        outputs = tuple(sorted(set(fetches)))
        kind = (self, batch_arrays.kind(feeds, pad_inputs=self._options.pad_inputs), outputs)
        self._scheduler.schedule(kind, task, self._options, lambda tasks: self._process(tasks, outputs))
        return task.wait()

    def close(self) -> None:
        """Unload the model."""
        self._session.close()

    def _process(self, tasks: Sequence[Task], fetches: Sequence[str]) -> None:
        now = time.monotonic()
        self._metrics.batch_queued(now - task.queued for task in tasks)
        if _deadline(tasks) <= now:
            late = ServingError(Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
            for task in tasks:
                task.finish(error=late)
        else:
            self._run(tasks, fetches)

    def _run(self, tasks: Sequence[Task], fetches: Sequence[str]) -> None:
        """Run tasks as one batch, and finish them.

        If their data makes the run fail, each half is run again, until the requests that fail are alone. So the others
        get their outputs, and no client reads an error about the data of another.
        """
        try:
            for task, outputs in zip(tasks, self._run_batch(tasks, fetches), strict=True):
                task.finish(outputs)
            return
        except ServingError as error:
            if len(tasks) == 1 or not isinstance(error, _DataError):
                for task in tasks:
                    task.finish(error=error)
                return
        # Here, the error no longer keeps the arrays of the batch in memory.
        middle = len(tasks) // 2
        self._run(tasks[:middle], fetches)
        self._run(tasks[middle:], fetches)

    def _run_batch(self, tasks: Sequence[Task], fetches: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """Run tasks once as one batch, and return the outputs of each.

        Raises:
            _DataError: If the data of a request may be the cause of a failure, as with every unexpected exception.
            ServingError: If the run took too long, or was cancelled.
        """
        rows = [task.rows for task in tasks]
        try:
            feeds = batch_arrays.merge(
                [task.feeds for task in tasks],
                self._options.filled_up(sum(rows)) - sum(rows),
                pad_inputs=self._options.pad_inputs,
            )
            padding = batch_arrays.count_rows(feeds) - sum(rows)
            outputs = self._run_merged(feeds, fetches, padding, _deadline(tasks))
            return batch_arrays.split(outputs, rows, padding)
        except ServingError as error:
            if error.code in _CODES_OF_TIME:
                raise
            raise _DataError(error.code, error.message) from error
        except Exception as error:
            if len(tasks) == 1:
                bounded_log.failure(_log, "A batched request", error)
            raise _DataError(Code.INTERNAL, f"{type(error).__name__}: {error}") from error

    def _run_merged(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], padding: int, deadline: float
    ) -> dict[str, np.ndarray]:
        self._metrics.batch_formed(batch_arrays.count_rows(feeds), padding)
        timeout_s = None if deadline == float("inf") else deadline - time.monotonic()
        try:
            return self._session.run(feeds, fetches, timeout_s=timeout_s)
        finally:
            self._metrics.batch_run()


def _deadline(tasks: Sequence[Task]) -> float:
    """Return the deadline of a batch, which is the latest one of its requests."""
    return max(task.deadline for task in tasks)
