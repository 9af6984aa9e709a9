"""The contract of presets for what a model answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.models.export_contract import ServingOptions


@dataclass(frozen=True)
class Outputs:
    """What a Keras model returned.

    Attributes:
        values: Its output, `(batch, ...)`; a list or dict if it has several.
        mask: Bool `(batch, steps)`, the real steps of an output per step; None if the output is not per step.
        probabilities: Whether the output is made by softmax or sigmoid.
    """

    values: Any
    mask: Tensor | None
    probabilities: bool


class AnswerPreset:
    """What an exported model answers.

    Attributes:
        named: Names of int outputs in which class names replace the ids.
        padding: Values of int outputs in rows that are refused, by name.
        per_step: Whether the model must have one output per step.
        classify: Names of the outputs with classes and scores for TensorFlow Serving's Classify; None for no such.
    """

    named: ClassVar[tuple[str, ...]] = ()
    padding: ClassVar[Mapping[str, int]] = {}
    per_step: ClassVar[bool] = False
    classify: ClassVar[tuple[str, str] | None] = None

    def check(self, options: ServingOptions, shape: Any) -> None:
        """Raise ValueError if an option does not apply, or `shape`, that of the model's output, does not fit."""
        options.refuse(f"model with the answers {type(self).__name__}", "strategy", "target")

    def answer(self, outputs: Outputs, options: ServingOptions) -> dict[str, Tensor]:
        """Return the answer's tensors `(batch, ...)` by name."""
        raise NotImplementedError(f"{type(self).__name__} must define answer(outputs, options).")


@dataclass(frozen=True, kw_only=True)
class ClassPreset(AnswerPreset):
    """An answer made from logits or probabilities of classes.

    Attributes:
        probabilities: Whether the model returns probabilities. None: whether its last layer has the activation softmax
            or sigmoid.
    """

    probabilities: bool | None = None

    def are_probabilities(self, outputs: Outputs) -> bool:
        """Return whether the output is made of probabilities."""
        return outputs.probabilities if self.probabilities is None else self.probabilities

    def distribution(self, outputs: Outputs) -> Tensor:
        """Return the output as float32 probabilities of classes."""
        values = ops.cast(outputs.values, "float32")
        return values if self.are_probabilities(outputs) else ops.softmax(values, axis=-1)


def full_precision(values: Tensor) -> Tensor:
    """Return float values in at least 32 bits, because TensorFlow Serving's JSON has no shorter ones."""
    is_half = keras.backend.standardize_dtype(values.dtype) in ("float16", "bfloat16")
    return ops.cast(values, "float32") if is_half else values


def check_one_output(preset: str, shape: Any, rank: int) -> None:
    """Raise ValueError unless `shape` is that of a single output with `rank` axes."""
    if not isinstance(shape, tuple) or len(shape) != rank or not all(isinstance(n, int | None) for n in shape):
        axes = "(batch, steps, classes)" if rank == 3 else "(batch, classes)"
        raise ValueError(f"answers={preset!r} needs a model with one output {axes}, but its output has shape {shape}.")


def check_names(options: ServingOptions, classes: int) -> None:
    """Raise ValueError unless there are as many class names as classes, or none."""
    if options.class_names is not None and len(options.class_names) != classes:
        raise ValueError(
            f"class_names has {len(options.class_names)} names, but the model has {classes} classes. Give one name for "
            "each class, in the order of the ids."
        )
