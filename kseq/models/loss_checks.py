"""Checks of what a model is compiled with: losses and metrics of probabilities, where the model returns logits."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from kseq.losses import SequenceCrossEntropy
from kseq.metrics import Bleu, CharacterErrorRate, ChrF, EditDistance, Perplexity, WordErrorRate

OF_TEXTS = Bleu, ChrF, EditDistance, CharacterErrorRate, WordErrorRate  # or, with a blank, of a CTC model's logits
ADVICE = (
    "kseq.losses.SequenceCrossEntropy(), which is the default, or "
    "keras.losses.SparseCategoricalCrossentropy(from_logits=True)"
)


def check_takes_logits(functions: Any, kind: str, advice: str = ADVICE) -> None:
    """Raise ValueError if a loss or metric expects probabilities or texts, or is Keras's CTC, which ignores lengths.

    Args:
        functions: A loss or metric, or its name, or a list or dict of them.
        kind: "loss" or "metric".
        advice: What to use in place of one that expects probabilities.
    """
    if isinstance(functions, Mapping):
        functions = functions.values()
    elif isinstance(functions, str) or not isinstance(functions, Iterable):
        functions = [functions]
    for function in functions:
        if isinstance(function, list | tuple | Mapping):
            check_takes_logits(function, kind, advice)
            continue
        shown = repr(function) if isinstance(function, str) else _name_of(function)
        found = _by_name(function, kind) if isinstance(function, str) else function
        if isinstance(found, keras.losses.CTC) or found is keras.losses.ctc:
            raise ValueError(
                f"The {kind} {shown} is Keras's CTC, which ignores lengths and takes 0 for padding, but the model's "
                "labels are padded with -1. Use kseq.losses.CTC()."
            )
        if type(found) in OF_TEXTS and getattr(found, "blank_index", None) is None:
            raise ValueError(
                f"The {kind} {shown} compares decoded answers, but the model returns logits. Give fit the callback "
                "kseq.training.DecodedMetric(data, metric), which decodes."
            )
        if from_logits(found) is False:
            raise ValueError(
                f"The {kind} {shown} expects probabilities, but the model returns logits, of which it would compute "
                f"nonsense. Use {advice}."
            )


def reads_labels_alone(loss: Any, *metrics: Any) -> bool:
    """Return whether a loss and metrics, or nests of these or None, read the probabilities of the labels alone."""
    flat = [each for each in keras.tree.flatten(metrics) if each is not None]
    smooth = type(loss) is SequenceCrossEntropy and loss.label_smoothing
    return type(loss) is SequenceCrossEntropy and not smooth and all(type(each) is Perplexity for each in flat)


def _by_name(name: str, kind: str) -> Any:
    if name in ("crossentropy", "ce"):  # Keras chooses among its cross-entropies by shape, without from_logits
        return keras.losses.sparse_categorical_crossentropy
    try:
        return keras.losses.get(name) if kind == "loss" else keras.metrics.get(name)
    except ValueError:
        return None  # Keras says so itself


def from_logits(function: Any) -> bool | None:
    """Return whether a loss or metric takes logits, or None if it takes neither logits nor probabilities."""
    if isinstance(function, keras.losses.Loss | keras.metrics.Metric):
        options = getattr(function, "_fn_kwargs", {})
        own = getattr(function, "from_logits", getattr(function, "_from_logits", None))  # the latter is that of AUC
        return options.get("from_logits", own)
    if not inspect.isfunction(function):
        return None
    parameter = inspect.signature(function).parameters.get("from_logits")
    return None if parameter is None else parameter.default


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)
