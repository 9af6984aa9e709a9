"""Training data for sequence models."""

from kseq.models.objectives import Distillation, GuidedAlignment, JointCTC, MinimumRisk, ScheduledSampling
from kseq.training.bucketing import bucket_by_length
from kseq.training.continuous_batches import continuous_batches
from kseq.training.forecast_windows import forecast_windows
from kseq.training.labelled_texts import labelled_texts
from kseq.training.tagged_words import tagged_words
from kseq.training.text_pairs import text_pairs

__all__ = [
    "Distillation",
    "GuidedAlignment",
    "JointCTC",
    "MinimumRisk",
    "ScheduledSampling",
    "bucket_by_length",
    "continuous_batches",
    "forecast_windows",
    "labelled_texts",
    "tagged_words",
    "text_pairs",
]


def __dir__() -> list[str]:
    return __all__
