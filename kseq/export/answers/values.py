"""Presets for models whose output is the answer."""

from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from kseq.backend import Tensor
from kseq.export.answers.preset import AnswerPreset, Outputs, full_precision
from kseq.masking import lengths_from_mask, zero_padding
from kseq.models.export_contract import ServingOptions


@dataclass(frozen=True)
class Vectors(AnswerPreset):
    """Answers are the model's output as it is: `vectors` `(batch, ...)`.

    Several outputs have the names of the model's dict, or `vectors_0`, `vectors_1` and so on. Floats of 16 bits become
    float32.
    """

    def check(self, options: ServingOptions, shape: Any) -> None:
        """Raise ValueError if an option does not apply."""
        super().check(options, shape)
        options.refuse("model that answers with vectors", "class_names")

    def answer(self, outputs: Outputs, options: ServingOptions) -> dict[str, Tensor]:
        """Return the outputs."""
        values = outputs.values
        if isinstance(values, dict):
            return {name: full_precision(value) for name, value in values.items()}
        if isinstance(values, list | tuple):
            return {f"vectors_{index}": full_precision(value) for index, value in enumerate(values)}
        return {"vectors": full_precision(values)}


@dataclass(frozen=True)
class Sequence(AnswerPreset):
    """Answers are the model's output per step: `sequence` `(batch, steps, ...)`, zero in the padding, and `lengths`.

    Floats of 16 bits become float32.
    """

    per_step: ClassVar[bool] = True

    def check(self, options: ServingOptions, shape: Any) -> None:
        """Raise ValueError if an option does not apply or there is no output per step."""
        super().check(options, shape)
        options.refuse("model that answers with a sequence", "class_names")
        if not isinstance(shape, tuple) or len(shape) < 3 or not all(isinstance(n, int | None) for n in shape):
            raise ValueError(
                f"answers='sequence' needs a model with one output (batch, steps, ...) with 3 or more axes, but its "
                f"output has shape {shape}. Use answers='vectors', which returns the output as it is."
            )

    def answer(self, outputs: Outputs, options: ServingOptions) -> dict[str, Tensor]:
        """Return the outputs of the real steps, and their number."""
        lengths = ops.cast(lengths_from_mask(outputs.mask), "int32")
        return {"sequence": zero_padding(full_precision(outputs.values), outputs.mask), "lengths": lengths}
