"""What a run of a model needs to know beside its tensors: how long it may take, and who times it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence

import numpy as np

from kseq_serving.metrics import Metrics
from kseq_serving.models.session import ModelSession


@dataclasses.dataclass(frozen=True)
class RunContext:
    """The circumstances of a run.

    Attributes:
        timeout_s: the longest it may take, in seconds; None for no limit.
        model: the name the client gave the model.
        metrics: where the run's time is recorded.
        check_methods: whether a signature may only be used by the method it was exported for.
    """

    timeout_s: float | None = None
    model: str = ""
    metrics: Metrics | None = None
    check_methods: bool = False

    def run(
        self, session: ModelSession, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], api: str = ""
    ) -> dict[str, np.ndarray]:
        """Runs the session.

        Args:
            session: the version.
            feeds: arrays by tensor name.
            fetches: tensor names.
            api: the method that the run's time is recorded under; empty for none.
        """
        started = time.perf_counter()
        values = session.run(feeds, fetches, timeout_s=self.timeout_s)
        if self.metrics and api:
            self.metrics.runtime_latency(self.model, api, time.perf_counter() - started)
        return values


UNBOUNDED = RunContext()
"""No limit, and nobody who keeps the time."""
