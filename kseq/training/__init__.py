"""Feeding and watching the training of sequence models."""

from kseq.training.bucketing import bucket_by_length

__all__ = ["bucket_by_length"]
