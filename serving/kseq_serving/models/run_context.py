"""Context of a run: its time limit, and the metrics that record its time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence

import numpy as np

from kseq_serving.metrics import Metrics
from kseq_serving.models.session import ModelSession


@dataclasses.dataclass(frozen=True)
class RunContext:
    """Time limit, metrics and checks of a run.

    Attributes:
        timeout_s: Longest time the run may take, in seconds; None for no limit.
        model: Name of the model in the request.
        metrics: Metrics that record the run's time; None to record nothing.
        check_methods: Whether to refuse signatures that were exported for another method.
    """

    timeout_s: float | None = None
    model: str = ""
    metrics: Metrics | None = None
    check_methods: bool = False

    def run(
        self, session: ModelSession, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], api: str = ""
    ) -> dict[str, np.ndarray]:
        """Run the session and record its time.

        Args:
            session: The loaded version.
            feeds: Arrays by tensor name.
            fetches: Tensor names.
            api: Name of the method in the metrics; empty to record nothing.
        """
        started = time.perf_counter()
        values = session.run(feeds, fetches, timeout_s=self.timeout_s)
        if self.metrics and api:
            self.metrics.runtime_latency(self.model, api, time.perf_counter() - started)
        return values


UNBOUNDED = RunContext()
"""Context without a time limit and without metrics."""
