"""The Laplace distribution."""

from collections.abc import Sequence
from typing import NamedTuple

from keras import ops

from kseq.backend import Tensor
from kseq.heads.head import Head, positive, registered


class LaplaceParameters(NamedTuple):
    """Float32 `(...)` each."""

    mean: Tensor
    scale: Tensor  # the mean absolute deviation


@registered
class Laplace(Head):
    """The Laplace distribution, whose log-density falls with the absolute distance from the mean.

        mean = o_1;   scale = softplus(o_2) + 1e-6    with o the network's outputs

    Example:
        >>> head = kseq.heads.Laplace()
        >>> head.quantile(head.parameters(np.zeros((4, head.size))), 0.9).shape
        (4,)
    """

    @property
    def size(self) -> int:
        """Number of outputs that a network gives for each value."""
        return 2

    def parameters_of(self, outputs: Tensor) -> LaplaceParameters:
        """Return the parameters of float32 `outputs` `(..., 2)`."""
        return LaplaceParameters(outputs[..., 0], positive(outputs[..., 1]))

    def log_density(self, parameters: LaplaceParameters, values: Tensor) -> Tensor:
        """Return the log-density of `values`."""
        return -ops.abs(values - parameters.mean) / parameters.scale - ops.log(2.0 * parameters.scale)

    def draw(self, parameters: LaplaceParameters, uniforms: Sequence[Tensor]) -> Tensor:
        """Return samples, the quantiles of uniform numbers."""
        return self.inverse_cdf(parameters, uniforms[0])

    def cdf(self, parameters: LaplaceParameters, values: Tensor) -> Tensor:
        """Return the probability of a number of at most each value."""
        distance = (values - parameters.mean) / parameters.scale
        tail = 0.5 * ops.exp(-ops.abs(distance))
        return ops.where(distance > 0, 1.0 - tail, tail)

    def inverse_cdf(self, parameters: LaplaceParameters, p: Tensor) -> Tensor:
        """Return the quantiles of `p`."""
        distance = ops.log(2.0 * ops.minimum(p, 1.0 - p))  # at most 0
        return parameters.mean + parameters.scale * ops.where(p > 0.5, -distance, distance)

    def mean(self, parameters: LaplaceParameters) -> Tensor:
        """Return the means."""
        return parameters.mean

    def scaled(self, parameters: LaplaceParameters, scale: Tensor) -> LaplaceParameters:
        """Return the parameters of the distribution of values that are `scale` times as large."""
        return LaplaceParameters(scale * parameters.mean, scale * parameters.scale)
