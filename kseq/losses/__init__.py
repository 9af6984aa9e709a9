"""Losses of sequence models."""

from kseq.losses.alignment_loss import AlignmentLoss
from kseq.losses.ctc import CTC, ctc_loss
from kseq.losses.sequence_cross_entropy import SequenceCrossEntropy

__all__ = ["CTC", "AlignmentLoss", "SequenceCrossEntropy", "ctc_loss"]


def __dir__() -> list[str]:
    return __all__
