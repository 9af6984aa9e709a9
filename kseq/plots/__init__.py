"""Plots of attention, alignments, training, forecasts, and the diagnostics of recurrent layers."""

from kseq.plots.alignment import alignment_heat_map
from kseq.plots.attention import attention_heat_map, attention_heat_maps, attention_over_picture
from kseq.plots.forecasts import fan_chart
from kseq.plots.recurrences import (
    eigenvalue_plot,
    gradient_decay,
    memory_curves,
    response_curves,
    saturation_plot,
    singular_value_plot,
    stability_diagram,
)
from kseq.plots.training import training_curves

__all__ = [
    "alignment_heat_map",
    "attention_heat_map",
    "attention_heat_maps",
    "attention_over_picture",
    "eigenvalue_plot",
    "fan_chart",
    "gradient_decay",
    "memory_curves",
    "response_curves",
    "saturation_plot",
    "singular_value_plot",
    "stability_diagram",
    "training_curves",
]


def __dir__() -> list[str]:
    return __all__
