"""The preset for models that give each row a class."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from kseq.backend import Tensor
from kseq.export.answers.preset import ClassPreset, Outputs, check_names, check_one_output
from kseq.models.answers.class_answer import classes_and_probabilities
from kseq.models.export_contract import ServingOptions


@dataclass(frozen=True, kw_only=True)
class Classes(ClassPreset):
    """Answers are the classes of a row, the most probable first: `classes` and `probabilities`, `(batch, n)`.

    `classes` are class names, or without names int32 ids. The model returns `(batch, classes)`, logits or
    probabilities. A single output is made by sigmoid, the probability of class 1 of two.

    Attributes:
        top: Number of classes in the answer. None: all.
    """

    top: int | None = None
    named: ClassVar[tuple[str, ...]] = ("classes",)
    padding: ClassVar[Mapping[str, int]] = {"classes": -1}
    classify: ClassVar[tuple[str, str] | None] = ("classes", "probabilities")

    def check(self, options: ServingOptions, shape: Any) -> None:
        """Raise ValueError if the output or the names do not fit."""
        super().check(options, shape)
        check_one_output("classes", shape, 2)
        classes = max(2, shape[-1])
        check_names(options, classes)
        if self.top is not None and not 1 <= self.top <= classes:
            raise ValueError(f"top={self.top}, but the model has {classes} classes.")

    def answer(self, outputs: Outputs, options: ServingOptions) -> dict[str, Tensor]:
        """Return the classes and their probabilities."""
        if outputs.values.shape[-1] == 1:
            values = ops.cast(outputs.values, "float32")
            second = values if self.are_probabilities(outputs) else ops.sigmoid(values)
            probabilities = ops.concatenate([1.0 - second, second], axis=-1)
        else:
            probabilities = self.distribution(outputs)
        return classes_and_probabilities(probabilities, self.top)
