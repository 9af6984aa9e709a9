"""Special functions of float32 tensors, and the search for quantiles that have no closed form."""

from collections.abc import Callable

import numpy as np
from keras import ops

from kseq.backend import Tensor, incomplete_beta, log_gamma, prevent_gradient, while_loop

NO_GRADIENT = (
    "This quantile or cumulative probability has no gradient: it is found by a search, or by the incomplete beta "
    "function. Train with log_probability, whose gradient is exact."
)
STIRLING = 8.0  # from here on, three terms of Stirling's series are exact in float32
HALVINGS = 48  # an interval of float32 numbers is then one or two neighbours


def normal_quantile(p: Tensor) -> Tensor:
    """Return the quantile of the standard normal distribution."""
    return np.sqrt(2.0).astype("float32") * ops.erfinv(2.0 * p - 1.0)


def normal_cdf(x: Tensor) -> Tensor:
    """Return the cumulative probability of the standard normal distribution, exact in both tails."""
    return 0.5 * ops.erfc(-x * np.sqrt(0.5).astype("float32"))


def regularised_beta(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """Return I_x(a, b), the regularised incomplete beta function, of the broadcast shape; it has no gradient."""
    one = ops.ones_like(a + b + x)
    a, b, x = (prevent_gradient(each * one, NO_GRADIENT) for each in (a, b, x))
    return incomplete_beta(a, b, x)


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    """Return log B(a, b) = log gamma(a) + log gamma(b) - log gamma(a + b) for a, b > 0, without cancellation.

    The difference of three large numbers would lose all digits, so large arguments use Stirling's series, of which the
    large terms cancel on paper.

    Reference: A. R. DiDonato, A. H. Morris, "Significant digit computation of the incomplete beta function ratios",
    ACM Transactions on Mathematical Software, 1992.
    """
    small, large = ops.where(a < b, a, b), ops.where(a < b, b, a)  # each once, also if they are equal
    # Each branch gets arguments that it can compute: NaN in the branch that is not chosen would reach the gradient.
    low, high = ops.minimum(small, STIRLING), ops.maximum(large, STIRLING)
    few = ops.minimum(large, STIRLING)
    neither = log_gamma(low) + log_gamma(few) - log_gamma(low + few)
    # log gamma(high) - log gamma(high + low)
    ratio = -(high - 0.5) * ops.log1p(low / high) - low * ops.log(high + low) + low
    one = log_gamma(low) + ratio + _correction(high) - _correction(high + low)
    least = ops.maximum(small, STIRLING)
    share = least / high
    both = (
        0.5 * np.log(2.0 * np.pi).astype("float32")
        - 0.5 * ops.log(high)
        + (least - 0.5) * (ops.log(share) - ops.log1p(share))
        - high * ops.log1p(share)
        + _correction(least)
        + _correction(high)
        - _correction(least + high)
    )
    return ops.where(large < STIRLING, neither, ops.where(small < STIRLING, one, both))


def _correction(x: Tensor) -> Tensor:
    """Return what Stirling's formula lacks of log gamma(x), for x of at least `STIRLING`."""
    inverse = 1.0 / x
    square = inverse * inverse
    return inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square / 1260.0))


def search_quantile(cdf: Callable[[Tensor], Tensor], p: Tensor, low: Tensor, high: Tensor, *, whole: bool) -> Tensor:
    """Return the smallest number whose cumulative probability is at least `p`, by halving an interval.

    Args:
        cdf: A function from numbers to their cumulative probabilities, which do not decrease.
        p: Float32 probabilities.
        low: Float32, of the shape of `p`, numbers with a smaller probability than `p`.
        high: Float32, of the shape of `p`, numbers with at least that probability.
        whole: Whether the distribution is one of whole numbers; `low` and `high` are then whole.
    """
    low, high = (prevent_gradient(each, NO_GRADIENT) for each in (low, high))

    def goes_on(state: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        count, low, high = state
        return ops.logical_and(count < HALVINGS, ops.any(_middle(low, high, whole) > low))

    def halve(state: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        count, low, high = state
        middle = _middle(low, high, whole)
        reached = ops.logical_or(cdf(middle) >= p, middle >= high)
        return count + 1, ops.where(reached, low, middle), ops.where(reached, middle, high)

    return while_loop(goes_on, halve, (ops.zeros((), "int32"), low, high))[2]


def _middle(low: Tensor, high: Tensor, whole: bool) -> Tensor:
    middle = low + 0.5 * (high - low)
    return ops.floor(middle) if whole else middle
