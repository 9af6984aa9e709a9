"""The preset for models that give each step a tag."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from keras import ops

from kseq.backend import Tensor
from kseq.export.answers.preset import ClassPreset, Outputs, check_names, check_one_output
from kseq.losses.crf_loss import layer_of_scores
from kseq.models.answers.tag_answer import tags_and_scores
from kseq.models.export_contract import ServingOptions


@dataclass(frozen=True)
class Tags(ClassPreset):
    """Answers are the most probable tag of each step and its probability: `tags` and `scores`, `(batch, steps)`.

    If the model ends in a `kseq.layers.CRF`, the tags are the most probable sequence, and the scores are the marginal
    probabilities of these tags.

    `tags` are class names, empty in the padding, or without names int32 ids, -1 in the padding. The model returns
    `(batch, steps, classes)`, logits or probabilities.
    """

    named: ClassVar[tuple[str, ...]] = ("tags",)
    padding: ClassVar[Mapping[str, int]] = {"tags": -1}
    per_step: ClassVar[bool] = True

    def check(self, options: ServingOptions, shape: Any) -> None:
        """Raise ValueError if the output or the names do not fit."""
        super().check(options, shape)
        check_one_output("tags", shape, 3)
        check_names(options, shape[-1])

    def answer(self, outputs: Outputs, options: ServingOptions) -> dict[str, Tensor]:
        """Return the tags and their probabilities."""
        crf = layer_of_scores(outputs.values)
        if crf is not None:
            tags, marginals = crf.decode(outputs.values, outputs.mask), crf.marginals(outputs.values, outputs.mask)
            each = ops.take_along_axis(marginals, ops.maximum(tags, 0)[:, :, None], axis=2)[:, :, 0]
            return {"tags": tags, "scores": each}
        return tags_and_scores(self.distribution(outputs), outputs.mask)
