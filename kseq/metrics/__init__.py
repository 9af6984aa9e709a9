"""Metrics of sequence models."""

from kseq.metrics.token_accuracy import TokenAccuracy

__all__ = ["TokenAccuracy"]
