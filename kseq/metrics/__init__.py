"""Metrics of sequence models."""

from kseq.metrics.edit_distance import CharacterErrorRate, EditDistance, WordErrorRate
from kseq.metrics.span_f1 import SpanF1, SpanScores
from kseq.metrics.token_accuracy import TokenAccuracy
from kseq.metrics.token_error_rate import TokenErrorRate, error_rates

__all__ = [
    "CharacterErrorRate",
    "EditDistance",
    "SpanF1",
    "SpanScores",
    "TokenAccuracy",
    "TokenErrorRate",
    "WordErrorRate",
    "error_rates",
]


def __dir__() -> list[str]:
    return __all__
