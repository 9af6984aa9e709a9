"""Figures of merit of decoded answers: metrics by name, metric objects and functions."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kseq.metrics import Bleu, CharacterErrorRate, ChrF, SequenceAccuracy, SpanF1, WordErrorRate

Metrics = Any  # a name, a metric, a function, or a list or dict of these
NAMED: dict[str, Callable[[str], keras.metrics.Metric]] = {
    "bleu": lambda name: Bleu(name=name),
    "chrf": lambda name: ChrF(name=name),
    "wer": lambda name: WordErrorRate(name=name),
    "cer": lambda name: CharacterErrorRate(name=name),
    "exact_match": lambda name: SequenceAccuracy(name=name),
}
SPAN_F1 = "span_f1"  # made of the model's names of tags


def metrics_by_name(metrics: Metrics) -> dict[str, Any]:
    """Return metrics and functions by the names of their figures.

    Raises:
        ValueError: If a name is unknown or there twice, or something is neither a metric nor a function.
    """
    if isinstance(metrics, Mapping):
        pairs = [(name, _metric(each, name)) for name, each in metrics.items()]
    else:
        several = metrics if isinstance(metrics, list | tuple) else [metrics]
        pairs = [(_name(each), _metric(each, _name(each))) for each in several]
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names) or not names:
        raise ValueError(f"The metrics are called {names}, but each needs a name of its own. Give a dict with names.")
    return dict(pairs)


def with_span_f1(metrics: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Return the metrics with that called "span_f1" made of the names and the scheme of the model's tags."""
    if SPAN_F1 not in metrics.values():
        return dict(metrics)
    names, scheme = getattr(model, "class_names", None), getattr(model, "scheme", None)
    if names is None:
        raise ValueError(
            f"'span_f1' needs names of tags, but the {type(model).__name__} has none. Create it with class_names=..., "
            "or give kseq.metrics.SpanF1(names)."
        )
    made = SpanF1(names, scheme or "BIO")
    return {name: made if each == SPAN_F1 else each for name, each in metrics.items()}


def figure_of(metric: Any, right: Sequence, decoded: Sequence) -> float:
    """Return the figure of decoded answers, of a metric that is reset before, or of a function."""
    if not isinstance(metric, keras.metrics.Metric):
        return float(metric(right, decoded))
    metric.reset_state()
    if isinstance(metric, SpanF1):
        metric.update_state(*_tags(metric, right, decoded), lengths=np.array([len(row) for row in right], "int32"))
    else:
        metric.update_state(list(right), list(decoded))
    return float(metric.result())


def check_metrics(metrics: Mapping[str, Any], right: Sequence) -> None:
    """Raise ValueError if a metric cannot compare answers such as `right`."""
    for name, metric in metrics.items():
        try:
            figure = figure_of(metric, right, right)
        except Exception as error:  # whatever a metric or a user's function raises
            raise ValueError(
                f"The metric {name!r} cannot compare decoded answers such as {right[0]!r}: {error} A metric of texts "
                "needs a model with a tokenizer; give metrics that read logits to compile(metrics=[...])."
            ) from error
        if math.isinf(figure):
            raise ValueError(f"The metric {name!r} is {figure} for the right answers themselves.")


def _name(metric: Any) -> str:
    if isinstance(metric, str):
        return metric
    name = getattr(metric, "name", None) or getattr(metric, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise ValueError(f"The metric {metric!r} has no name. Give a dict, such as {{'exact': {metric!r}}}.")
    return name


def _metric(metric: Any, name: str) -> Any:
    if metric == SPAN_F1:
        return metric
    if isinstance(metric, str) and metric in NAMED:
        return NAMED[metric](name)
    if isinstance(metric, str) or inspect.isclass(metric) or not callable(metric):
        raise ValueError(
            f"The metric {metric!r} must be one of {[*NAMED, SPAN_F1]}, a metric such as kseq.metrics.Bleu(), or a "
            "function of (right answers, decoded answers)."
        )
    return metric


def _tags(metric: SpanF1, right: Sequence, decoded: Sequence) -> list[np.ndarray]:
    """Return rows of names or ids of tags as ids, int32 `(rows, longest)`."""
    numbers = {name: number for number, name in enumerate(metric.names)}
    arrays = []
    for rows in (right, decoded):
        ids = np.zeros((len(rows), max(map(len, right))), "int32")
        for place, row in enumerate(rows):
            ids[place, : len(row)] = [numbers[tag] if isinstance(tag, str) else tag for tag in row]
        arrays.append(ids)
    return arrays
