"""Training of sequence models: data, objectives, and diagnostics of recurrent layers."""

from kseq.models.objectives import Distillation, GuidedAlignment, JointCTC, MinimumRisk, ScheduledSampling
from kseq.training.bucketing import bucket_by_length
from kseq.training.buckets import choose_buckets
from kseq.training.co_occurrences import co_occurrences
from kseq.training.context_windows import context_windows
from kseq.training.continuous_batches import continuous_batches
from kseq.training.decoded_metric import DecodedMetric
from kseq.training.diagnostics import (
    BoundedInputResponse,
    FixedPoint,
    GateSaturation,
    GradientFlow,
    KernelSpectrum,
    MemoryCurve,
    StabilityMap,
    bounded_input_response,
    fixed_points,
    gate_saturation,
    gradient_flow,
    memory_curve,
    recurrent_spectra,
    stability_map,
    state_jacobian_norms,
)
from kseq.training.exact_resume import ExactResume
from kseq.training.forecast_windows import forecast_windows
from kseq.training.gradient_monitor import GradientMonitor
from kseq.training.gradient_noise import GradientNoise
from kseq.training.labelled_texts import labelled_texts
from kseq.training.learning_rates import LearningRates
from kseq.training.not_finite import NotFinite, load_batch
from kseq.training.recurrence_monitor import RecurrenceMonitor, RecurrenceReport
from kseq.training.schedules import InverseSquareRoot, NoamSchedule
from kseq.training.speed_perturbation import perturb_speed
from kseq.training.streamed_batches import streamed_batches
from kseq.training.tagged_words import tagged_words
from kseq.training.text_pairs import text_pairs
from kseq.training.weight_averaging import StochasticWeightAveraging
from kseq.training.weight_noise import WeightNoise

__all__ = [
    "BoundedInputResponse",
    "DecodedMetric",
    "Distillation",
    "ExactResume",
    "FixedPoint",
    "GateSaturation",
    "GradientFlow",
    "GradientMonitor",
    "GradientNoise",
    "GuidedAlignment",
    "InverseSquareRoot",
    "JointCTC",
    "KernelSpectrum",
    "LearningRates",
    "MemoryCurve",
    "MinimumRisk",
    "NoamSchedule",
    "NotFinite",
    "RecurrenceMonitor",
    "RecurrenceReport",
    "ScheduledSampling",
    "StabilityMap",
    "StochasticWeightAveraging",
    "WeightNoise",
    "bounded_input_response",
    "bucket_by_length",
    "choose_buckets",
    "co_occurrences",
    "context_windows",
    "continuous_batches",
    "fixed_points",
    "forecast_windows",
    "gate_saturation",
    "gradient_flow",
    "labelled_texts",
    "load_batch",
    "memory_curve",
    "perturb_speed",
    "recurrent_spectra",
    "stability_map",
    "state_jacobian_norms",
    "streamed_batches",
    "tagged_words",
    "text_pairs",
]


def __dir__() -> list[str]:
    return __all__
