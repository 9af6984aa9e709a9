"""Metrics of sequence models."""

from kseq.metrics.edit_distance import CharacterErrorRate, EditDistance, WordErrorRate
from kseq.metrics.token_accuracy import TokenAccuracy

__all__ = ["CharacterErrorRate", "EditDistance", "TokenAccuracy", "WordErrorRate"]
