"""Non-negative numbers with a float mantissa and a separate integer exponent.

The probability of a long alignment is far below the range of float32, and its logarithm, say -4000, has an absolute
error of 2e-4 in float32. A mantissa with an integer exponent keeps 24 bits of precision at any magnitude. Adding and
multiplying such numbers needs no logarithms or exponentials, only shifts, maxima and products, which are vectorised.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kseq import backend
from kseq.backend import Tensor

# The exponent that represents zero: 2 ** -2 ** 29 = exp(-3.7e8). The sum of three of them still fits int32.
ZERO = -(2**29)
# ln 2 = LN2_HIGH + LN2_LOW. LN2_HIGH has 9 bits, so that its product with an exponent is exact.
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440054690583e-4


class Format(NamedTuple):
    """The bit layout of a float type."""

    integer: str  # the integer type of the same width
    bits: int  # bits of the mantissa, without the implicit leading one
    bias: int  # of the exponent


FORMATS = {"float32": Format("int32", 23, 127), "float64": Format("int64", 52, 1023)}


class Wide(NamedTuple):
    """Numbers `mantissa * 2 ** exponent`, at least 0.

    Attributes:
        mantissa: Float, never 0; in [1, 2) after `normal`.
        exponent: Integer of the same width and shape; `ZERO` represents the number zero.
    """

    mantissa: Tensor
    exponent: Tensor


def layout(mantissa: Tensor) -> Format:
    """Return the bit layout of the float tensor `mantissa`."""
    return FORMATS[keras.backend.standardize_dtype(mantissa.dtype)]


def from_mask(mask: Tensor, like: Tensor) -> Wide:
    """Return one where `mask` is True and zero elsewhere, in the precision of `like`."""
    return Wide(ops.ones_like(mask, dtype=like.dtype), penalty(mask, like))


def penalty(allowed: Tensor, like: Tensor) -> Tensor:
    """Return the exponent to add so that numbers become zero where `allowed` is False."""
    return ops.cast(ops.where(allowed, 0, ZERO), layout(like).integer)


def from_log(logarithm: Tensor) -> Wide:
    """Return `exp(logarithm)`, for logarithms below 3e8; below -3e8, and for -inf, it is zero."""
    form, limit = layout(logarithm), -ZERO * np.log(2.0)
    logarithm = ops.clip(logarithm, -limit, limit)
    power = ops.floor(logarithm * (1.0 / np.log(2.0)))
    rest = (logarithm - power * LN2_HIGH) - power * LN2_LOW  # in [0, ln 2], rounded once
    return Wide(ops.exp(rest), ops.cast(power, form.integer))


def to_log(number: Wide) -> Tensor:
    """Return the natural logarithm: -inf for zero, NaN for a NaN mantissa."""
    power = ops.cast(number.exponent, number.mantissa.dtype)
    logarithm = power * LN2_HIGH + (power * LN2_LOW + ops.log(number.mantissa))
    return ops.where(is_zero(number), ops.full_like(logarithm, -np.inf), logarithm)


def is_zero(number: Wide) -> Tensor:
    """Return whether numbers are zero; results of additions and multiplications count as zero below half of `ZERO`."""
    return number.exponent < ZERO // 2


def normal(number: Wide) -> Wide:
    """Return the same numbers with mantissas in [1, 2)."""
    form = layout(number.mantissa)
    bits = backend.bitcast(number.mantissa, form.integer)
    one = form.bias << form.bits
    mantissa = backend.bitcast(ops.bitwise_or(ops.bitwise_and(bits, (1 << form.bits) - 1), one), number.mantissa.dtype)
    return Wide(mantissa, number.exponent + (ops.right_shift(bits, form.bits) - form.bias))


def power_of_two(exponent: Tensor, dtype: Any) -> Tensor:
    """Return `2 ** exponent` as a float, for exponents from -126 to 127; zero for -127."""
    form = FORMATS[keras.backend.standardize_dtype(dtype)]
    smallest = exponent + form.bias if form.bias == 127 else ops.where(exponent < -126, 0, exponent + form.bias)
    return backend.bitcast(ops.left_shift(smallest, form.bits), dtype)


def add(*numbers: Wide) -> Wide:
    """Return the sum of `normal` numbers."""
    top = numbers[0].exponent
    for number in numbers[1:]:
        top = ops.maximum(top, number.exponent)
    dtype = numbers[0].mantissa.dtype
    terms = [n.mantissa * power_of_two(ops.maximum(n.exponent - top, -127), dtype) for n in numbers]
    return Wide(sum(terms[1:], terms[0]), top)


def multiply(a: Wide, b: Wide) -> Wide:
    """Return the product."""
    return Wide(a.mantissa * b.mantissa, ops.maximum(a.exponent + b.exponent, ZERO))


def total(numbers: Wide) -> Wide:
    """Return the sum over the last axis: `(..., n)` to `(...)`."""
    mantissa, exponent = normal(numbers)
    top = ops.max(exponent, axis=-1, initial=-(2**31))
    scaled = mantissa * power_of_two(ops.maximum(exponent - top[..., None], -127), mantissa.dtype)
    return normal(Wide(ops.sum(scaled, axis=-1), top))


def where(condition: Tensor, a: Wide, b: Wide) -> Wide:
    """Return `a` where `condition` is True and `b` elsewhere."""
    return Wide(ops.where(condition, a.mantissa, b.mantissa), ops.where(condition, a.exponent, b.exponent))
