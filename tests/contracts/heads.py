"""A small instance of every head that is a distribution, with its twin of scipy; a new head is a line in HEADS."""

from typing import NamedTuple

import numpy as np
from scipy import stats

import kseq


def positive(x):
    return np.logaddexp(0.0, x) + 1e-6


class MixtureTwin:
    """A mixture of scipy's distributions, whose quantiles are searched on a grid of whole numbers or by halving."""

    def __init__(self, weights, components, whole):
        self.weights, self.components, self.whole = weights, components, whole

    def _sum(self, values):
        return sum(self.weights[..., i] * value for i, value in enumerate(values))

    def logpdf(self, x):
        return np.log(self._sum([np.exp(log_probability(each, x)) for each in self.components]))

    def cdf(self, x):
        return self._sum([each.cdf(x) for each in self.components])

    def mean(self):
        return self._sum([each.mean() for each in self.components])

    def std(self):
        squares = self._sum([each.var() + each.mean() ** 2 for each in self.components])
        return np.sqrt(squares - self.mean() ** 2)

    def ppf(self, p):
        low = np.full(self.mean().shape, -1.0 if self.whole else -1e3)
        high = np.full(self.mean().shape, 1024.0 if self.whole else 1e3)
        for _ in range(80):
            middle = np.floor((low + high) / 2) if self.whole else (low + high) / 2
            reached = self.cdf(middle) >= p
            low, high = np.where(reached, low, middle), np.where(reached, np.minimum(middle, high), high)
        return high


def log_probability(twin, x):
    return twin.logpmf(x) if hasattr(twin, "logpmf") else twin.logpdf(x)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def normal(o):
    return stats.norm(o[..., 0], positive(o[..., 1]))


def laplace(o):
    return stats.laplace(o[..., 0], positive(o[..., 1]))


def student_t(o):
    return stats.t(2.0 + positive(o[..., 2]), o[..., 0], positive(o[..., 1]))


def negative_binomial(o):
    count, mean = 1.0 / positive(o[..., 1]), positive(o[..., 0])
    return stats.nbinom(count, count / (count + mean))


class Case(NamedTuple):
    """A head, and a function from outputs, float64 `(..., size)`, to scipy's distribution of their shape."""

    head: kseq.heads.Head
    twin: object


HEADS = {
    "Normal": Case(kseq.heads.Normal(), normal),
    "Laplace": Case(kseq.heads.Laplace(), laplace),
    "StudentT": Case(kseq.heads.StudentT(), student_t),
    "NegativeBinomial": Case(kseq.heads.NegativeBinomial(), negative_binomial),
    "Bernoulli": Case(kseq.heads.Bernoulli(3), lambda o: stats.bernoulli(1.0 / (1.0 + np.exp(-o)))),
    "Mixture": Case(
        kseq.heads.Mixture([kseq.heads.Normal(), kseq.heads.StudentT()]),
        lambda o: MixtureTwin(softmax(o[..., :2]), [normal(o[..., 2:4]), student_t(o[..., 4:])], False),
    ),
    "Mixture of counts": Case(
        kseq.heads.Mixture([kseq.heads.NegativeBinomial()] * 2),
        lambda o: MixtureTwin(
            softmax(o[..., :2]), [negative_binomial(o[..., 2:4]), negative_binomial(o[..., 4:])], True
        ),
    ),
}
