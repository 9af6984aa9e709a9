"""The normal distribution."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.heads.head import Head, positive, registered
from kseq.heads.special_functions import normal_cdf, normal_quantile

HALF_LOG_TWO_PI = 0.5 * float(np.log(2.0 * np.pi))


class NormalParameters(NamedTuple):
    """Float32 `(...)` each."""

    mean: Tensor
    scale: Tensor  # the standard deviation


@registered
class Normal(Head):
    """The normal distribution of numbers of either sign.

        mean = o_1;   scale = softplus(o_2) + 1e-6    with o the network's outputs

    Example:
        >>> head = kseq.heads.Normal()
        >>> parameters = head.parameters(np.zeros((4, 10, head.size)))
        >>> head.log_probability(parameters, np.ones((4, 10))).shape
        (4, 10)
    """

    @property
    def size(self) -> int:
        """Number of outputs that a network gives for each value."""
        return 2

    def parameters_of(self, outputs: Tensor) -> NormalParameters:
        """Return the parameters of float32 `outputs` `(..., 2)`."""
        return NormalParameters(outputs[..., 0], positive(outputs[..., 1]))

    def log_density(self, parameters: NormalParameters, values: Tensor) -> Tensor:
        """Return the log-density of `values`."""
        distance = (values - parameters.mean) / parameters.scale
        return -0.5 * distance * distance - ops.log(parameters.scale) - HALF_LOG_TWO_PI

    def draw(self, parameters: NormalParameters, uniforms: Sequence[Tensor]) -> Tensor:
        """Return samples, the quantiles of uniform numbers."""
        return self.inverse_cdf(parameters, uniforms[0])

    def cdf(self, parameters: NormalParameters, values: Tensor) -> Tensor:
        """Return the probability of a number of at most each value."""
        return normal_cdf((values - parameters.mean) / parameters.scale)

    def inverse_cdf(self, parameters: NormalParameters, p: Tensor) -> Tensor:
        """Return the quantiles of `p`."""
        return parameters.mean + parameters.scale * normal_quantile(p)

    def mean(self, parameters: NormalParameters) -> Tensor:
        """Return the means."""
        return parameters.mean

    def scaled(self, parameters: NormalParameters, scale: Tensor) -> NormalParameters:
        """Return the parameters of the distribution of values that are `scale` times as large."""
        return NormalParameters(scale * parameters.mean, scale * parameters.scale)
