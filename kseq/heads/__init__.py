"""Output heads: distributions of numbers whose parameters a network predicts."""

from kseq.heads.bernoulli import Bernoulli, BernoulliParameters
from kseq.heads.head import Head
from kseq.heads.laplace import Laplace, LaplaceParameters
from kseq.heads.mixture import Mixture, MixtureParameters
from kseq.heads.negative_binomial import NegativeBinomial, NegativeBinomialParameters
from kseq.heads.normal import Normal, NormalParameters
from kseq.heads.quantiles import QuantileParameters, Quantiles
from kseq.heads.student_t import StudentT, StudentTParameters

__all__ = [
    "Bernoulli",
    "BernoulliParameters",
    "Head",
    "Laplace",
    "LaplaceParameters",
    "Mixture",
    "MixtureParameters",
    "NegativeBinomial",
    "NegativeBinomialParameters",
    "Normal",
    "NormalParameters",
    "QuantileParameters",
    "Quantiles",
    "StudentT",
    "StudentTParameters",
]


def __dir__() -> list[str]:
    return __all__
