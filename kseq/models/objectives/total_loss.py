"""The loss of a training step: the compiled loss and those of the objectives."""

from collections.abc import Mapping
from typing import Any

from keras import ops

from kseq.backend import Tensor, num_replicas
from kseq.models.objectives.distillation import LOGITS, PROBABILITIES, Distillation
from kseq.models.objectives.guided_alignment import ALIGNMENTS, GuidedAlignment
from kseq.models.objectives.joint_ctc import JointCTC
from kseq.models.objectives.minimum_risk import MinimumRisk
from kseq.models.objectives.objective import Objective, TrainingBatch, check_kind

OBJECTIVES: dict[str, type[Objective]] = {
    "distillation": Distillation,
    "guided_alignment": GuidedAlignment,
    "ctc": JointCTC,
    "minimum_risk": MinimumRisk,
}
READ_BY = {LOGITS: "distillation", PROBABILITIES: "distillation", ALIGNMENTS: "guided_alignment"}


def objectives_of(model: Any) -> dict[str, Objective]:
    """Return a model's objectives by the names of its arguments."""
    return {name: getattr(model, name) for name in OBJECTIVES if getattr(model, name, None) is not None}


def check_objectives(model: Any) -> None:
    """Raise ValueError if an objective is none, does not fit the model, or they leave nothing of the compiled loss."""
    for name, kind in OBJECTIVES.items():
        check_kind(name, getattr(model, name), kind)
    for objective in objectives_of(model).values():
        objective.check_model(model)
    shares = {name: each.replaced for name, each in objectives_of(model).items() if each.replaced}
    if sum(shares.values()) > 1.0:
        raise ValueError(f"The weights {shares} are shares of the whole loss, but they sum to more than 1.")


def check_inputs(model: Any, inputs: Mapping[str, Any]) -> None:
    """Raise ValueError if arrays that an objective reads do not fit the model."""
    for objective in objectives_of(model).values():
        objective.check_inputs(inputs, model)


def check_to_train(model: Any, inputs: Mapping[str, Any]) -> None:
    """Raise ValueError if an objective lacks an input, or an input would not be read."""
    check_all_read(model, inputs)
    for objective in objectives_of(model).values():
        objective.check_to_train(inputs, model)


def check_all_read(model: Any, inputs: Mapping[str, Any]) -> None:
    """Raise ValueError if the inputs have one that no objective of the model reads."""
    for name, reader in READ_BY.items():
        if name in inputs and reader not in objectives_of(model):
            raise ValueError(
                f"The inputs have {name!r}, which only a model made with {reader}=... reads. Leave it out, or give "
                f"Seq2Seq {reader}=kseq.training.{OBJECTIVES[reader].__name__}(...)."
            )


def total_loss(model: Any, compiled_loss: Tensor, batch: TrainingBatch) -> Tensor:
    """Return the loss of a training step.

    Args:
        model: The model.
        compiled_loss: The loss that the model is compiled with, and the penalties of regularizers, which keep their
            weight.
        batch: The batch.
    """
    objectives = objectives_of(model)
    replaced = sum(each.replaced for each in objectives.values())
    total = compiled_loss
    if replaced:
        penalties = model.losses
        total = (1.0 - replaced) * total + (
            replaced * ops.sum(ops.stack(penalties)) / num_replicas() if penalties else 0.0
        )
    for objective in objectives.values():
        total = total + objective.loss(model, batch)
    return total
