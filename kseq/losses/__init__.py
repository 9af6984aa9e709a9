"""Losses of sequence models."""

from kseq.losses.sequence_cross_entropy import SequenceCrossEntropy

__all__ = ["SequenceCrossEntropy"]
