"""Options of `Seq2Seq` that change what a training step reads or minimises."""

from kseq.models.objectives.distillation import Distillation
from kseq.models.objectives.guided_alignment import GuidedAlignment
from kseq.models.objectives.joint_ctc import JointCTC
from kseq.models.objectives.minimum_risk import MinimumRisk
from kseq.models.objectives.scheduled_sampling import ScheduledSampling

__all__ = ["Distillation", "GuidedAlignment", "JointCTC", "MinimumRisk", "ScheduledSampling"]


def __dir__() -> list[str]:
    return __all__
