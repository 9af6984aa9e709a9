"""Special functions of float32 tensors, and the search for quantiles that have no closed form."""

from collections.abc import Callable, Sequence

import numpy as np
from keras import ops

from kseq.backend import Tensor, bitcast, incomplete_beta, log_gamma, prevent_gradient, while_loop

NO_GRADIENT = (
    "This quantile or cumulative probability has no gradient: it is found by a search, or by the incomplete beta "
    "function. Train with log_probability, whose gradient is exact."
)
STIRLING = 8.0  # from here on, three terms of Stirling's series are exact in float32
HALVINGS = 48  # an interval of float32 numbers is then one or two neighbours
# Coefficients of `normal_quantile`, from the constant on: of numerators and denominators.
NEAR_CENTRE = (3.3871327179, 50.434271938, 159.29113202, 59.10937472), (1.0, 17.895169469, 78.757757664, 67.187563600)
NEAR_TAIL = (1.4234372777, 2.7568153900, 1.3067284816, 0.17023821103), (1.0, 0.73700164250, 0.12021132975)
FAR_TAIL = (6.6579051150, 3.0812263860, 0.42868294337, 0.017337203997), (1.0, 0.24197894225, 0.012258202635)


def normal_quantile(p: Tensor) -> Tensor:
    """Return the quantile of the standard normal distribution, exact in float32 also for the smallest p.

    Reference: M. J. Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics,
    1988, the routine PPND7.
    """
    centre = ops.clip(p - 0.5, -0.425, 0.425)
    near = centre * _ratio(0.180625 - centre * centre, *NEAR_CENTRE)
    tail = ops.sqrt(-ops.log(ops.minimum(p, 1.0 - p)))
    near_tail, far_tail = (
        _ratio(ops.minimum(tail, 5.0) - 1.6, *NEAR_TAIL),
        _ratio(ops.maximum(tail, 5.0) - 5.0, *FAR_TAIL),
    )
    far = ops.where(tail <= 5.0, near_tail, far_tail)
    return ops.where(ops.abs(p - 0.5) <= 0.425, near, ops.where(p < 0.5, -far, far))


def _ratio(x: Tensor, above: Sequence[float], below: Sequence[float]) -> Tensor:
    """Return the ratio of two polynomials, given their coefficients from the constant on."""
    polynomials = []
    for coefficients in (above, below):
        value = ops.full_like(x, coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            value = value * x + coefficient
        polynomials.append(value)
    return polynomials[0] / polynomials[1]


def normal_cdf(x: Tensor) -> Tensor:
    """Return the cumulative probability of the standard normal distribution, exact in both tails."""
    return 0.5 * ops.erfc(-x * np.sqrt(0.5).astype("float32"))


def regularised_beta(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return I_x(a, b), the regularised incomplete beta function, of the broadcast shape; it has no gradient.

    Args:
        a: First parameter.
        b: Second parameter.
        x: The share at which it is computed.
        y: 1 - x, which a difference could not tell if x is close to 1.
    """
    one = ops.ones_like(a + b + x + y)
    return incomplete_beta(*(prevent_gradient(each * one, NO_GRADIENT) for each in (a, b, x, y)))


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


def excess(t: Tensor, one_plus: Tensor) -> Tensor:
    """Return ((1 + t) log(1 + t) - t) / t, a smooth function that is 0 at 0, and its gradient, without cancellation.

    Args:
        t: Numbers above -1.
        one_plus: 1 + t, with all its digits.
    """
    is_near = ops.abs(t) < 0.4
    near = ops.where(is_near, t, ops.zeros_like(t))
    s = near / (2.0 + near)  # log(1 + t) = 2 (s + s**3 / 3 + s**5 / 5 ...)
    square = s * s
    series = ops.zeros_like(s)
    for power in (13.0, 11.0, 9.0, 7.0, 5.0, 3.0):
        series = square * (series + 1.0 / power)
    far, above = ops.where(is_near, ops.ones_like(t), t), ops.where(is_near, 2.0 * ops.ones_like(t), one_plus)
    return ops.where(is_near, s + series * (1.0 + s), above * ops.log(above) / far - 1.0)


def log_of(t: Tensor, one_plus: Tensor) -> Tensor:
    """Return log(1 + t), given both t and 1 + t with all their digits."""
    is_near = ops.abs(t) < 0.5
    near, far = ops.where(is_near, t, ops.zeros_like(t)), ops.where(is_near, ops.ones_like(t), one_plus)
    return ops.where(is_near, ops.log1p(near), ops.log(far))


def stirling_error(x: Tensor, inverse: Tensor) -> Tensor:
    """Return log gamma(x) - ((x - 1/2) log x - x + log(2 pi) / 2), what Stirling's formula lacks of it.

    Args:
        x: Positive numbers; of those from `STIRLING` on only the inverse is used.
        inverse: 1 / x.
    """
    few = ops.minimum(x, STIRLING)
    exact = log_gamma(few) - ((few - 0.5) * ops.log(few) - few + np.float32(0.5 * np.log(2.0 * np.pi)))
    return ops.where(x < STIRLING, exact, _series(ops.minimum(inverse, 1.0 / STIRLING)))


def _correction(x: Tensor) -> Tensor:
    """Return what Stirling's formula lacks of log gamma(x), for x of at least `STIRLING`."""
    return _series(1.0 / x)


def _series(inverse: Tensor) -> Tensor:
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
    """Return numbers between `low` and `high`: of whole numbers the mean, else with as many float32 on either side.

    So an interval from 1 to 1e15 needs no more halvings than one from 1 to 2.
    """
    if whole:
        return ops.floor(low + 0.5 * (high - low))
    low, high = _place(low), _place(high)
    middle = low // 2 + high // 2 + (low % 2 + high % 2) // 2
    size = bitcast(ops.abs(middle), "float32")
    return ops.where(middle < 0, -size, size)


def _place(values: Tensor) -> Tensor:
    """Return the place of float32 numbers among all of them, int32: 0 for 0, 1 for the next larger one."""
    size = bitcast(ops.abs(values), "int32")
    return ops.where(values < 0, -size, size)
