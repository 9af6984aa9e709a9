"""The negative binomial distribution."""

from collections.abc import Sequence
from typing import NamedTuple

from keras import ops, tree

from kseq.backend import Tensor
from kseq.heads.head import Head, positive, registered
from kseq.heads.special_functions import log_beta, regularised_beta, search_quantile


class NegativeBinomialParameters(NamedTuple):
    """Float32 `(...)` each."""

    mean: Tensor
    dispersion: Tensor  # the variance is mean + dispersion * mean ** 2


@registered
class NegativeBinomial(Head):
    """The negative binomial distribution of counts whose variance is larger than their mean: sales, visitors, events.

        mean = softplus(o_1) + 1e-6;   dispersion = softplus(o_2) + 1e-6

    Values are whole numbers from 0 on. Its quantiles and samples are searched, and have no gradient.

    Scaled by s, the mean becomes s mean and the dispersion dispersion / sqrt(s) (Salinas et al.): counts have no scale,
    so this is no distribution of multiples.

    Example:
        >>> head = kseq.heads.NegativeBinomial()
        >>> head.log_probability(head.parameters(np.zeros((2, head.size))), [0, 3]).shape
        (2,)

    Reference: D. Salinas, V. Flunkert, J. Gasthaus, T. Januschowski, "DeepAR: probabilistic forecasting with
    autoregressive recurrent networks", International Journal of Forecasting, 2020.
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
        count = 1.0 / dispersion  # of successes
        product = dispersion * mean
        ways = -ops.log(values + count) - log_beta(count + ops.zeros_like(values), values + 1.0)
        return ways - values * ops.log1p(1.0 / product) - count * ops.log1p(product)

    def draw(self, parameters: NegativeBinomialParameters, uniforms: Sequence[Tensor]) -> Tensor:
        """Return samples, the quantiles of uniform numbers."""
        return self.inverse_cdf(tree.map_structure(ops.stop_gradient, parameters), uniforms[0])

    def cdf(self, parameters: NegativeBinomialParameters, values: Tensor) -> Tensor:
        """Return the probability of a count of at most each value; it has no gradient."""
        mean, dispersion = parameters
        below = ops.floor(ops.cast(values, "float32"))
        share = regularised_beta(1.0 / dispersion, ops.maximum(below, 0.0) + 1.0, 1.0 / (1.0 + dispersion * mean))
        return ops.where(below < 0, 0.0, share)

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
