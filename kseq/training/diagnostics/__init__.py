"""Diagnostics of recurrent layers: spectra, gradients over distance, memory, saturation, stability."""

from kseq.training.diagnostics.bounded import BoundedInputResponse, bounded_input_response
from kseq.training.diagnostics.jacobians import GradientFlow, gradient_flow, state_jacobian_norms
from kseq.training.diagnostics.memory import MemoryCurve, memory_curve
from kseq.training.diagnostics.one_neuron import FixedPoint, StabilityMap, fixed_points, stability_map
from kseq.training.diagnostics.saturation import GateSaturation, gate_saturation
from kseq.training.diagnostics.spectra import KernelSpectrum, recurrent_spectra

__all__ = [
    "BoundedInputResponse",
    "FixedPoint",
    "GateSaturation",
    "GradientFlow",
    "KernelSpectrum",
    "MemoryCurve",
    "StabilityMap",
    "bounded_input_response",
    "fixed_points",
    "gate_saturation",
    "gradient_flow",
    "memory_curve",
    "recurrent_spectra",
    "stability_map",
    "state_jacobian_norms",
]


def __dir__() -> list[str]:
    return __all__
