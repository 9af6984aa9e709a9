"""Counters and latencies of the server, under TensorFlow Serving's names, in Prometheus's text format.

prometheus-client holds the values. Its text output is not used, because it renames counters and prints bucket limits
with more digits, while dashboards made for TensorFlow Serving rely on the exact names.

Clients choose the model names in requests, so one series per name would let a client exhaust the memory. Names are
therefore cut to `MAX_LABEL` characters, and models that are not served share one series after `MAX_UNKNOWN_MODELS`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from kseq_serving.errors import Code

MetricT = TypeVar("MetricT", bound=MetricWrapperBase)

PREFIX = ":tensorflow:serving:"
OWN_PREFIX = ":kseq:"
MAX_LABEL = 256
MAX_UNKNOWN_MODELS = 100
OTHER_MODELS = "(other)"

_MICROS = 1e6
# First limit, growth factor and number of buckets, as in TensorFlow Serving; limits are printed with six digits.
_LATENCIES = (10.0, 1.8, 33)
_QUEUE_LATENCIES = (100.0, 1.2, 52)
_EXAMPLES = (1.0, 2.0, 15)
_BATCH_SIZES = (1.0, 2.0, 14)


class Metrics:
    """All metrics of one server; usable from any thread."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._metrics: dict[str, MetricWrapperBase] = {}
        self._unknown_models: set[str] = set()
        self._known: dict[tuple[MetricWrapperBase, tuple[str, ...]], Any] = {}
        self._lock = threading.Lock()
        self._declare_unused()
        self._requests = self._counter(f"{PREFIX}request_count", "model_name", "status")
        self._request_latency = self._histogram(
            f"{PREFIX}request_latency", _LATENCIES, "model_name", "API", "entrypoint"
        )
        self._runtime_latency = self._histogram(f"{PREFIX}runtime_latency", _LATENCIES, "model_name", "API", "runtime")
        self._examples_total = self._counter(f"{PREFIX}request_example_count_total", "model")
        self._examples = self._histogram(f"{PREFIX}request_example_counts", _EXAMPLES, "model")
        self._warmup_latency = self._histogram(f"{PREFIX}model_warmup_latency", _LATENCIES, "model_path", "status")
        self._warmup_records = self._counter(f"{PREFIX}model_warmup_records_read", "model_path", "status")
        session = f"{PREFIX}batching_session:"
        self._queuing_latency = self._histogram(f"{session}queuing_latency", _QUEUE_LATENCIES, "thread_pool_name")
        self._wrapped_runs = self._counter(f"{session}wrapped_run_count")
        self._input_sizes = self._histogram(f"{session}input_batch_size", _BATCH_SIZES)
        self._padding_sizes = self._histogram(f"{session}padding_size", _BATCH_SIZES, "execution_batch_size")
        self._processed_sizes = self._histogram(f"{session}processed_batch_size", _BATCH_SIZES)
        self._hidden_until_used = {
            f"{session}{name}" for name in ("input_batch_size", "padding_size", "processed_batch_size")
        }
        self._in_flight = self._gauge(f"{OWN_PREFIX}requests_in_flight")
        self._with_others: Callable[[bytes], bytes] = lambda own: own

    def request(self, model: str, code: Code, *, served: bool) -> None:
        """Count an answered request.

        Args:
            model: Name of the model in the request.
            code: Status code of the response.
            served: Whether the server has such a model.
        """
        self._of(self._requests, self._model(model, served=served), code.name).inc()

    def request_latency(self, model: str, api: str, entrypoint: str, seconds: float) -> None:
        """Record the latency of a request that was answered with OK."""
        self._of(self._request_latency, model[:MAX_LABEL], api, entrypoint).observe(seconds * _MICROS)

    def runtime_latency(self, model: str, api: str, seconds: float) -> None:
        """Record the time of a run of a model."""
        self._of(self._runtime_latency, model[:MAX_LABEL], api, "TF1").observe(seconds * _MICROS)

    def example_count(self, model: str, count: int) -> None:
        """Count the examples of a MultiInference request."""
        self._examples.labels(model[:MAX_LABEL]).observe(count)
        self._examples_total.labels(model[:MAX_LABEL]).inc(count)

    def warmup(self, folder: str, code: Code, records: int, seconds: float) -> None:
        """Record the time and the number of records of a version's warm-up."""
        self._warmup_latency.labels(folder, code.name).observe(seconds * _MICROS)
        self._warmup_records.labels(folder, code.name).inc(records)

    def batch_input(self, rows: int, tensors: int) -> None:
        """Count the rows of a request before it is batched, once for each of its tensors."""
        for _ in range(tensors):
            self._input_sizes.observe(rows)

    def batch_queued(self, seconds: Iterable[float]) -> None:
        """Record how long each request of a batch has waited."""
        for waited in seconds:
            self._of(self._queuing_latency, "").observe(waited * _MICROS)

    def batch_formed(self, size: int, padding: int) -> None:
        """Count the rows of a batch, `padding` of which were added to reach an allowed size."""
        self._of(self._padding_sizes, str(size)).observe(padding)
        self._processed_sizes.observe(size)

    def batch_run(self) -> None:
        """Count a run of a batch."""
        self._wrapped_runs.inc()

    def watch_requests_in_flight(self, count: Callable[[], int]) -> None:
        """Set the function that returns the number of requests that wait or run."""
        self._in_flight.set_function(count)

    def total(self, name: str) -> int:
        """Return the first value of a counter, or 0 if it has none.

        Args:
            name: Name of the counter in TensorFlow's form, such as `/tensorflow/serving/request_count`.
        """
        metric = self._metrics.get(name.replace("/", ":"))
        if not isinstance(metric, Counter):
            return 0
        return next((int(value) for _, _, value in _series(metric)), 0)

    def add_others(self, with_others: Callable[[bytes], bytes]) -> None:
        """Set the function that adds the metrics of other processes to the text of these."""
        self._with_others = with_others

    def render(self, *, asking: int = 0) -> bytes:
        """Return all metrics in Prometheus's text format, sorted by name.

        Args:
            asking: Number of requests that ask for the metrics; they are in flight, and not counted.
        """
        return self._with_others(self.render_own(asking=asking))

    def render_own(self, *, asking: int = 0) -> bytes:
        """Return the metrics of this process alone, as `render`."""
        lines: list[str] = []
        for name, metric in sorted(self._metrics.items()):
            series = _series(metric)
            if series or name not in self._hidden_until_used:
                lines.append(f"# TYPE {name} {_kind(metric)}")
            for suffix, labels, value in series:
                value -= asking if metric is self._in_flight else 0
                text = ",".join(f'{label}="{_escape(content)}"' for label, content in labels.items())
                lines.append(f"{name}{suffix}{{{text}}} {value:.17g}")
        return ("\n".join(lines) + "\n").encode("utf-8", "replace")

    def _of(self, metric: MetricT, *labels: str) -> MetricT:
        """Return the series of these labels, from a cache because the library's own look-up is slow."""
        series = self._known.get((metric, labels))
        if series is None:
            series = self._known[metric, labels] = metric.labels(*labels)
        return series

    def _model(self, name: str, *, served: bool) -> str:
        name = name[:MAX_LABEL]
        if served or not name or name in self._unknown_models:
            return name
        with self._lock:
            if len(self._unknown_models) >= MAX_UNKNOWN_MODELS:
                return OTHER_MODELS
            self._unknown_models.add(name)
        return name

    def _declare_unused(self) -> None:
        """Declare the metrics that TensorFlow Serving lists from the start and this server never counts."""
        batching = f"{PREFIX}batching:"
        self._gauge(f"{batching}mixed_priority_batching_policy", "model_name", "op_name")
        self._histogram(f"{batching}padding_size_v2", _BATCH_SIZES, "model_name", "op_name", "execution_batch_size")
        self._counter(f"{batching}processed_batch_size_v2", "model_name", "op_name", "batch_size")
        self._gauge(f"{PREFIX}mlmd_map", "model_name", "version")
        self._counter(f"{PREFIX}request_log_count", "model_name", "status_code")

    def _counter(self, name: str, *labels: str) -> Counter:
        return self._keep(name, Counter(name, name, labels, registry=self._registry))

    def _gauge(self, name: str, *labels: str) -> Gauge:
        return self._keep(name, Gauge(name, name, labels, registry=self._registry))

    def _histogram(self, name: str, buckets: tuple[float, float, int], *labels: str) -> Histogram:
        return self._keep(name, Histogram(name, name, labels, registry=self._registry, buckets=_limits(*buckets)))

    def _keep(self, name: str, metric: MetricT) -> MetricT:
        self._metrics[name] = metric
        return metric


def _limits(first: float, factor: float, count: int) -> list[float]:
    return [float(f"{first * factor**power:.6g}") for power in range(count)]


def _kind(metric: MetricWrapperBase) -> str:
    return {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}[type(metric)]


def _series(metric: MetricWrapperBase) -> list[tuple[str, dict[str, str], float]]:
    """Return the suffix, labels and value of each sample of a metric; none for an unused metric without labels."""
    (family,) = metric.collect()
    series = []
    for sample in family.samples:
        if sample.name.endswith("_created"):
            continue
        suffix = sample.name.removeprefix(family.name) if isinstance(metric, Histogram) else ""
        labels = dict(sample.labels)
        if "le" in labels:
            labels["le"] = labels["le"].removesuffix(".0")
        series.append((suffix, labels, sample.value))
    has_labels = any(labels.keys() - {"le"} for _, labels, _ in series)
    return series if has_labels or any(value for _, _, value in series) else []


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
