"""Losses of sequence models."""

from kseq.losses.alignment_loss import AlignmentLoss
from kseq.losses.crf import crf_log_likelihood
from kseq.losses.crf_loss import CRF
from kseq.losses.ctc import CTC, ctc_loss
from kseq.losses.sequence_cross_entropy import SequenceCrossEntropy

__all__ = ["CRF", "CTC", "AlignmentLoss", "SequenceCrossEntropy", "crf_log_likelihood", "ctc_loss"]


def __dir__() -> list[str]:
    return __all__
