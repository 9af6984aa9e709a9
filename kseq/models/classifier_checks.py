"""Checks of the options, the labels and the functions of classifiers of rows."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kseq.models.inputs.token_checks import integer_array
from kseq.models.loss_checks import check_takes_logits, from_logits
from kseq.models.row_tasks import RowTask
from kseq.models.step_weights import check_step_weights
from kseq.numbers import whole


def check_outputs(num_classes: Any, task: RowTask) -> int:
    """Return the number of outputs, or raise ValueError if the task needs more."""
    count = whole("num_classes", num_classes)
    if count < task.fewest:
        raise ValueError(f"num_classes={count}, but the task {task.name!r} needs at least {task.fewest}.")
    return count


def check_class_names(names: Sequence[str] | None, num_classes: int, task: RowTask) -> tuple[str, ...] | None:
    """Return the names as a tuple; raise ValueError unless there is a different one for each class, or None."""
    if names is None:
        return None
    if not task.has_classes:
        raise ValueError(f"class_names are {names!r}, but the task {task.name!r} has no classes. Leave them out.")
    if isinstance(names, str) or len(names) != num_classes:
        count = "a text" if isinstance(names, str) else f"{len(names)} names"
        raise ValueError(
            f"class_names has {count}, {names!r}, but the model has {num_classes} classes. Give one name for each "
            "class, in the order of the ids."
        )
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"class_names has {twice!r} twice, so answers would not tell the classes apart.")
    return tuple(names)


def check_supervision(step_weights: Any, pooling: Any, encoder: Any) -> None:
    """Raise ValueError if the weights of the steps are wrong, or the model has no output that belongs to one step."""
    check_step_weights(step_weights)
    if step_weights is None:
        return
    if pooling != "last":
        raise ValueError(
            f"step_weights={step_weights!r} needs pooling='last', whose answer is that of the last step, but "
            f"pooling={pooling!r}."
        )
    if not encoder.causal or encoder.subsampling != 1:
        raise ValueError(
            f"step_weights={step_weights!r} supervises what a recurrence knows after each step, but this "
            f"{type(encoder).__name__} has read more of the row at a step than the tokens up to it. Give an encoder in "
            "one direction, such as Encoder(..., bidirectional=False)."
        )


def check_pooling(layer: Any) -> Any:
    """Return a pooling layer; raise ValueError if it takes no mask, because padding would change its answers."""
    if not isinstance(layer, keras.layers.Layer) or "mask" not in inspect.signature(layer.call).parameters:
        raise ValueError(
            f"pooling={layer!r} must be a name, or a layer whose call has the argument mask: without it, padding would "
            "change the answers."
        )
    return layer


def check_functions(task: RowTask, loss: Any, metrics: Sequence[Any]) -> None:
    """Raise ValueError if the loss expects probabilities, or a metric something else than it gets."""
    check_takes_logits(loss, "loss", task.advice)
    if task.name != "multi_label":
        check_takes_logits(metrics, "metric", task.advice)
        return
    for metric in metrics:
        if metric in ("accuracy", "acc", "crossentropy", "ce"):
            raise ValueError(
                f"The metric {metric!r} means that of a single class to Keras. For several labels give "
                "keras.metrics.BinaryAccuracy() or keras.metrics.BinaryCrossentropy()."
            )
        if not isinstance(metric, str) and from_logits(metric):
            raise ValueError(
                f"The metric {getattr(metric, 'name', metric)} expects logits, but metrics of several labels get "
                "probabilities. Leave from_logits=True out."
            )


def check_labels(inputs: Mapping[str, Any], task: RowTask, num_classes: int) -> None:
    """Raise ValueError if the inputs have no labels, not as many as rows, or a wrong one."""
    if "labels" not in inputs:
        raise ValueError(f"The inputs {sorted(inputs)} lack labels, which training and evaluation need.")
    rows, count = len(inputs["source"]), len(inputs["labels"])
    if rows != count:
        raise ValueError(f"labels has {count} rows, but source has {rows}: each row needs one label.")
    task.check(inputs["labels"], num_classes)


def refuse_empty(inputs: Mapping[str, Any], texts: Sequence[Any] | None = None) -> None:
    """Raise ValueError if a row has no tokens; `texts` are those that the rows are made from, for the error."""
    empty = np.flatnonzero(integer_array(inputs["source_lengths"], "source_lengths") == 0)
    if len(empty):
        row = int(empty[0])
        shown = f"source[{row}] has" if texts is None else f"The text {texts[row]!r} has"
        raise ValueError(f"{shown} no tokens, so there is nothing to answer from. Leave it out.")
