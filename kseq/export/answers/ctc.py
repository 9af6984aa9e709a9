"""The preset for models trained by CTC."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from kseq.backend import Tensor
from kseq.decoding import get_ctc_strategy
from kseq.export.answers.preset import ClassPreset, Outputs, check_names, check_one_output
from kseq.masking import lengths_from_mask
from kseq.models.export_contract import ServingOptions


@dataclass(frozen=True, kw_only=True)
class Ctc(ClassPreset):
    """Answers are decoded label sequences: `tokens`, `lengths`, `scores`, `frames` and, with names, `text`.

    The outputs are those of a `kseq.models.CTCRecognizer`. The model returns `(batch, frames, classes)`, logits or
    probabilities.

    Attributes:
        blank_index: Class of the blank; negative numbers count from the last class. The strategy has its own.
    """

    blank_index: int = 0
    per_step: ClassVar[bool] = True
    padding: ClassVar[Mapping[str, int]] = {"tokens": -1, "frames": -1}

    def check(self, options: ServingOptions, shape: Any) -> None:
        """Raise ValueError if the tokenizer, the names or the blank do not fit the model's classes."""
        check_one_output("ctc", shape, 3)
        classes, target = shape[-1], options.target
        blank = self._blank(classes)
        if options.strategy is not None:
            get_ctc_strategy(options.strategy)  # raises if it is none
        of_strategy = getattr(options.strategy, "blank_index", blank)
        if of_strategy != blank:
            raise ValueError(
                f"The strategy has blank_index={of_strategy}, but the answers have {blank}. Give answers="
                f"kseq.export.Ctc(blank_index={of_strategy})."
            )
        if target is not None and (target.vocabulary_size, target.pad_id) != (classes, blank):
            raise ValueError(
                f"The target tokenizer has {target.vocabulary_size} ids and the pad token {target.pad_id}, but the "
                f"model has {classes} classes and the blank {blank}. Leave target out, and give class_names."
            )
        if target is not None:
            options.refuse("model with a target tokenizer", "class_names")
        check_names(options, classes)

    def _blank(self, classes: int) -> int:
        if not -classes <= self.blank_index < classes:
            raise ValueError(f"blank_index={self.blank_index}, but the model has {classes} classes.")
        return self.blank_index % classes

    def answer(self, outputs: Outputs, options: ServingOptions) -> dict[str, Tensor]:
        """Return the decoded label sequences."""
        logits = ops.cast(outputs.values, "float32")
        if self.are_probabilities(outputs):
            logits = ops.log(ops.maximum(logits, 1e-30))  # finite, because -inf - -inf is NaN
        lengths = lengths_from_mask(outputs.mask)
        strategy = "greedy" if options.strategy is None else options.strategy
        return get_ctc_strategy(strategy, blank_index=self._blank(logits.shape[-1]))(logits, lengths)._asdict()
