"""Metrics of sequence models."""

from kseq.metrics.bleu import Bleu
from kseq.metrics.chrf import ChrF
from kseq.metrics.coverage import Coverage
from kseq.metrics.edit_distance import CharacterErrorRate, EditDistance, WordErrorRate
from kseq.metrics.mase import MASE
from kseq.metrics.perplexity import Perplexity
from kseq.metrics.sequence_accuracy import SequenceAccuracy
from kseq.metrics.span_f1 import SpanF1, SpanScores
from kseq.metrics.token_accuracy import TokenAccuracy
from kseq.metrics.token_error_rate import TokenErrorRate, error_rates
from kseq.metrics.weighted_quantile_loss import WeightedQuantileLoss

__all__ = [
    "MASE",
    "Bleu",
    "CharacterErrorRate",
    "ChrF",
    "Coverage",
    "EditDistance",
    "Perplexity",
    "SequenceAccuracy",
    "SpanF1",
    "SpanScores",
    "TokenAccuracy",
    "TokenErrorRate",
    "WeightedQuantileLoss",
    "WordErrorRate",
    "error_rates",
]


def __dir__() -> list[str]:
    return __all__
