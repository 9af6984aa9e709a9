"""Student's t distribution."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.heads.head import Head, positive, registered
from kseq.heads.special_functions import log_beta, normal_cdf, normal_quantile, regularised_beta, search_quantile

# Degrees of freedom from which D. L. Wallace's normal approximation (1959) is better than float32's incomplete beta.
MANY = 100.0


class StudentTParameters(NamedTuple):
    """Float32 `(...)` each."""

    mean: Tensor
    scale: Tensor  # the standard deviation is scale * sqrt(freedom / (freedom - 2))
    freedom: Tensor  # degrees of freedom, at least 2


@registered
class StudentT(Head):
    """Student's t distribution, whose tails are heavier than the normal distribution's: for prices and returns.

        mean = o_1;   scale = softplus(o_2) + 1e-6;   freedom = 2 + softplus(o_3) + 1e-6

    With more than 2 degrees of freedom it has a mean and a variance. Its quantiles are searched.

    Example:
        >>> head = kseq.heads.StudentT()
        >>> head.sample(head.parameters(np.zeros((4, 10, head.size))), seed=0).shape
        (4, 10)

    Reference for the samples: R. W. Bailey, "Polar generation of random variates with the t-distribution", Mathematics
    of Computation, 1994.
    """

    draws = 2

    @property
    def size(self) -> int:
        """Number of outputs that a network gives for each value."""
        return 3

    def parameters_of(self, outputs: Tensor) -> StudentTParameters:
        """Return the parameters of float32 `outputs` `(..., 3)`."""
        return StudentTParameters(outputs[..., 0], positive(outputs[..., 1]), 2.0 + positive(outputs[..., 2]))

    def log_density(self, parameters: StudentTParameters, values: Tensor) -> Tensor:
        """Return the log-density of `values`."""
        freedom = parameters.freedom
        distance = (values - parameters.mean) / parameters.scale
        power = 0.5 * (freedom + 1.0) * ops.log1p(distance * distance / freedom)
        constant = log_beta(0.5 * freedom, 0.5 * ops.ones_like(freedom)) + 0.5 * ops.log(freedom)
        return -power - constant - ops.log(parameters.scale)

    def draw(self, parameters: StudentTParameters, uniforms: Sequence[Tensor]) -> Tensor:
        """Return samples, each of two uniform numbers: a radius and an angle."""
        freedom = parameters.freedom
        radius = ops.sqrt(freedom * ops.expm1(-2.0 / freedom * ops.log(uniforms[0])))
        return parameters.mean + parameters.scale * radius * ops.cos(2.0 * np.pi * uniforms[1])

    def cdf(self, parameters: StudentTParameters, values: Tensor) -> Tensor:
        """Return the probability of a number of at most each value; it has no gradient."""
        distance = (values - parameters.mean) / parameters.scale
        tail = _tail(ops.abs(distance), parameters.freedom)
        return ops.where(distance > 0, 1.0 - tail, tail)

    def inverse_cdf(self, parameters: StudentTParameters, p: Tensor) -> Tensor:
        """Return the quantiles of `p`, which have no gradient with respect to the degrees of freedom."""
        tail = ops.minimum(p, 1.0 - p)
        freedom = parameters.freedom + ops.zeros_like(p)
        distance = search_quantile(lambda x: -_tail(x, freedom), -tail, *_bracket_of_distance(tail), whole=False)
        return parameters.mean + parameters.scale * ops.where(p > 0.5, distance, -distance)

    def bracket(self, parameters: StudentTParameters, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return numbers below and not below the quantiles of `p`."""
        near, far = _bracket_of_distance(ops.minimum(p, 1.0 - p))
        low, high = ops.where(p > 0.5, near, -far), ops.where(p > 0.5, far, -near)
        room = 1e-6 * (1.0 + ops.abs(parameters.mean))
        return parameters.mean + parameters.scale * low - room, parameters.mean + parameters.scale * high + room

    def mean(self, parameters: StudentTParameters) -> Tensor:
        """Return the means."""
        return parameters.mean

    def scaled(self, parameters: StudentTParameters, scale: Tensor) -> StudentTParameters:
        """Return the parameters of the distribution of values that are `scale` times as large."""
        return StudentTParameters(scale * parameters.mean, scale * parameters.scale, parameters.freedom)


def _tail(distance: Tensor, freedom: Tensor) -> Tensor:
    """Return the probability of more than `distance`, which is at least 0, exact also where it is small."""
    square = distance * distance
    few = ops.minimum(freedom, MANY)
    tail = 0.5 * regularised_beta(0.5 * few, 0.5 * ops.ones_like(few), few / (few + square), square / (few + square))
    normal = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0) * ops.sqrt(freedom * ops.log1p(square / freedom))
    return ops.where(freedom > MANY, normal_cdf(-normal), tail)


def _bracket_of_distance(tail: Tensor) -> tuple[Tensor, Tensor]:
    """Return bounds of the distance that is exceeded with probability `tail`, whatever the degrees of freedom.

    The normal quantile is too small, and that of 2 degrees of freedom, which has a closed form, too large.
    """
    high = (1.0 - 2.0 * tail) * ops.rsqrt(2.0 * tail * (1.0 - tail))
    return -normal_quantile(tail) * 0.999, high * 1.001 + 1e-6
