"""The negative binomial distribution."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from keras import ops, tree

from kseq.backend import Tensor, log_gamma
from kseq.heads.head import Head, positive, registered
from kseq.heads.special_functions import STIRLING, excess, log_of, regularised_beta, search_quantile, stirling_error

LEAST_DISPERSION = 1e-9  # below it, cumulative probabilities are those of a Poisson distribution


class NegativeBinomialParameters(NamedTuple):
    """Float32 `(...)` each."""

    mean: Tensor
    dispersion: Tensor  # the variance is mean + dispersion * mean ** 2


@registered
class NegativeBinomial(Head):
    """The negative binomial distribution of counts whose variance is larger than their mean: sales, visitors, events.

        mean = softplus(o_1) + 1e-6;   dispersion = softplus(o_2) + 1e-6

    Values are whole numbers from 0 on. Its quantiles and samples are searched, and have no gradient. With almost no
    dispersion it is the Poisson distribution: all its functions are exact in float32 for dispersions down to 1e-9.

    Scaled by s, the mean becomes s mean and the dispersion dispersion / sqrt(s) (Salinas et al.): counts have no scale,
    so this is no distribution of multiples.

    Example:
        >>> head = kseq.heads.NegativeBinomial()
        >>> head.log_probability(head.parameters(np.zeros((2, head.size))), [0, 3]).shape
        (2,)

    References:
        - D. Salinas, V. Flunkert, J. Gasthaus, T. Januschowski, "DeepAR: probabilistic forecasting with autoregressive
          recurrent networks", International Journal of Forecasting, 2020.
        - C. Loader, "Fast and accurate computation of binomial probabilities", 2000: probabilities by deviances.
    """

    whole = True
    lowest = 0.0

    @property
    def size(self) -> int:
        """Number of outputs that a network gives for each value."""
        return 2

    def parameters_of(self, outputs: Tensor) -> NegativeBinomialParameters:
        """Return the parameters of float32 `outputs` `(..., 2)`."""
        return NegativeBinomialParameters(positive(outputs[..., 0]), positive(outputs[..., 1]))

    def log_density(self, parameters: NegativeBinomialParameters, values: Tensor) -> Tensor:
        """Return the log-probability of the counts `values`."""
        mean, dispersion = parameters
        spread = 1.0 + dispersion * values
        deviance = _deviance(mean, dispersion, values)
        # The number of successes is 1 / dispersion, which is infinite in a Poisson distribution.
        few = 1.0 / ops.maximum(dispersion, 1.0 / STIRLING)
        errors = stirling_error(few + values, dispersion / spread) - stirling_error(few, dispersion)
        return -deviance - 0.5 * ops.log(spread) + errors - _log_factorial(values)

    def draw(self, parameters: NegativeBinomialParameters, uniforms: Sequence[Tensor]) -> Tensor:
        """Return samples, the quantiles of uniform numbers."""
        return self.inverse_cdf(tree.map_structure(ops.stop_gradient, parameters), uniforms[0])

    def cdf(self, parameters: NegativeBinomialParameters, values: Tensor) -> Tensor:
        """Return the probability of a count of at most each value; it has no gradient."""
        mean, dispersion = parameters
        below = ops.floor(ops.cast(values, "float32"))
        dispersion = ops.maximum(dispersion, LEAST_DISPERSION)
        odds = dispersion * mean
        share, rest = 1.0 / (1.0 + odds), odds / (1.0 + odds)
        probability = regularised_beta(1.0 / dispersion, ops.maximum(below, 0.0) + 1.0, share, rest)
        return ops.where(below < 0, 0.0, probability)

    def inverse_cdf(self, parameters: NegativeBinomialParameters, p: Tensor) -> Tensor:
        """Return the quantiles of `p`, which have no gradient."""
        return search_quantile(lambda x: self.cdf(parameters, x), p, *self.bracket(parameters, p), whole=True)

    def bracket(self, parameters: NegativeBinomialParameters, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return counts below and not below the quantiles of `p`, by Cantelli's inequality."""
        mean = parameters.mean
        deviation, odds = ops.sqrt(mean + parameters.dispersion * mean * mean), p / (1.0 - p)
        low = ops.maximum(ops.floor(mean - deviation * ops.rsqrt(odds)) - 1.0, -1.0)
        return low, ops.ceil(mean + deviation * ops.sqrt(odds)) + 1.0

    def mean(self, parameters: NegativeBinomialParameters) -> Tensor:
        """Return the means."""
        return parameters.mean

    def scaled(self, parameters: NegativeBinomialParameters, scale: Tensor) -> NegativeBinomialParameters:
        """Return the parameters of counts whose mean is `scale` times as large, see the class."""
        return NegativeBinomialParameters(scale * parameters.mean, parameters.dispersion * ops.rsqrt(scale))


def _deviance(mean: Tensor, dispersion: Tensor, values: Tensor) -> Tensor:
    """Return x log(x / m) - (x + r) log((x + r) / (m + r)) of counts x, for means m and r = 1 / dispersion.

    Without dispersion it is x log(x / m) - x + m. In either of two forms the terms cancel each other, where the mean is
    much larger or smaller than r.
    """
    more, product, spread = values - mean, 1.0 + dispersion * mean, 1.0 + dispersion * values
    is_none = values == 0
    some = ops.where(is_none, mean, values)  # the logarithm of 0 would make gradients NaN
    other, of_other = dispersion * more / product, spread / product
    own = ops.where(is_none, -1.0, excess((some - mean) / mean, some / mean))
    of_few = more * (own - excess(other, of_other))
    of_some = 1.0 + dispersion * some
    ratio = log_of((some - mean) / (mean * of_some), some / mean * product / of_some)
    of_many = ops.where(is_none, 0.0, some * ratio) - log_of(other, of_other) / dispersion
    return ops.where(dispersion * mean < 1.0, of_few, of_many)


def _log_factorial(values: Tensor) -> Tensor:
    """Return log x! - x log x + x of counts, without cancellation where they are large; 0 of 0."""
    few, many = ops.clip(values, 1.0, STIRLING), ops.maximum(values, STIRLING)
    exact = log_gamma(few + 1.0) - few * ops.log(few) + few
    large = 0.5 * ops.log(np.float32(2.0 * np.pi) * many) + stirling_error(many, 1.0 / many)
    return ops.where(values < 1.0, 0.0, ops.where(values < STIRLING, exact, large))
