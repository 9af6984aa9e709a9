"""Losses of sequence models."""

from kseq.losses.alignment_loss import AlignmentLoss
from kseq.losses.attention_weights import coverage_loss, diagonal_attention_loss, guided_alignment_loss
from kseq.losses.crf import crf_log_likelihood
from kseq.losses.crf_loss import CRF
from kseq.losses.ctc import CTC, ctc_loss
from kseq.losses.negative_log_likelihood import NegativeLogLikelihood
from kseq.losses.sequence_cross_entropy import SequenceCrossEntropy
from kseq.losses.soft_targets import soft_target_loss

__all__ = [
    "CRF",
    "CTC",
    "AlignmentLoss",
    "NegativeLogLikelihood",
    "SequenceCrossEntropy",
    "coverage_loss",
    "crf_log_likelihood",
    "ctc_loss",
    "diagonal_attention_loss",
    "guided_alignment_loss",
    "soft_target_loss",
]


def __dir__() -> list[str]:
    return __all__
