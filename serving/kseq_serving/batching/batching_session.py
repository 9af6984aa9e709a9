"""A session whose runs share batches with those of other threads."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from kseq_serving.batching import batch_arrays
from kseq_serving.batching.batch_scheduler import BatchScheduler
from kseq_serving.batching.batching_options import BatchingOptions
from kseq_serving.batching.batching_task import Task
from kseq_serving.errors import Code, ServingError
from kseq_serving.metrics import Metrics
from kseq_serving.models.session import ModelSession
from kseq_serving.protocol.protos import SignatureDef


class BatchingSession:
    """Runs that feed and fetch the same tensors are collected and run as one.

    A run without rows is not batched: it would wait for a batch that never fills.

    Args:
        session: what runs the batches.
        options: how they are formed.
        scheduler: the threads that run them.
        metrics: where they are counted.
    """

    def __init__(self, session: ModelSession, options: BatchingOptions, scheduler: BatchScheduler, metrics: Metrics):
        self._session = session
        self._options = options
        self._scheduler = scheduler
        self._metrics = metrics

    @property
    def signatures(self) -> Mapping[str, SignatureDef]:
        """The signatures by name."""
        return self._session.signatures

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> dict[str, np.ndarray]:
        """Runs the graph in a batch.

        Args:
            feeds: arrays by tensor name, all of as many rows.
            fetches: tensor names.
            timeout_s: the longest to wait and run; None for no limit.

        Returns:
            The fetched arrays by tensor name, of this run's rows.

        Raises:
            ServingError: the run does not fit into a batch, the queue is full, or the batch failed.
        """
        rows = batch_arrays.count_rows(feeds)
        self._metrics.batch_input(rows, len(feeds))
        if not rows:
            return self._session.run(feeds, fetches, timeout_s=timeout_s)
        task = Task(feeds, rows, timeout_s)
        outputs = tuple(sorted(set(fetches)))
        kind = (self, tuple(sorted(feeds)), outputs)
        self._scheduler.schedule(kind, task, self._options, lambda tasks: self._process(tasks, outputs))
        return task.wait()

    def close(self) -> None:
        """Frees the model."""
        self._session.close()

    def _process(self, tasks: Sequence[Task], fetches: Sequence[str]) -> None:
        try:
            for task, outputs in zip(tasks, self._run_batch(tasks, fetches), strict=True):
                task.finish(outputs)
        except ServingError as error:
            for task in tasks:
                task.finish(error=error)

    def _run_batch(self, tasks: Sequence[Task], fetches: Sequence[str]) -> list[dict[str, np.ndarray]]:
        now = time.monotonic()
        self._metrics.batch_queued(now - task.queued for task in tasks)
        # The batch may take as long as the request in it that waits longest.
        deadline = max(task.deadline for task in tasks)
        if deadline <= now:
            raise ServingError(Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
        rows = [task.rows for task in tasks]
        size = self._options.filled_up(sum(rows))
        padding = size - sum(rows)
        self._metrics.batch_formed(size, padding)
        feeds = batch_arrays.merge([task.feeds for task in tasks], padding, pad_inputs=self._options.pad_inputs)
        timeout_s = None if deadline == float("inf") else deadline - now
        try:
            outputs = self._session.run(feeds, fetches, timeout_s=timeout_s)
        finally:
            self._metrics.batch_run()
        return batch_arrays.split(outputs, rows, padding)
