"""Probabilities as mantissa times a power of two, with an exponent of its own.

The probability of a long alignment is far below what float32 holds, and its logarithm, say -4000, is held to 2e-4 only.
A mantissa and an integer exponent keep 24 bits whatever the size, and to add and multiply them takes neither
logarithms nor exponentials: no more than shifts, maxima and products, which a processor does eight and more at a time.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kseq import backend
from kseq.backend import Tensor

# The exponent of zero, as good as: 2 ** -2 ** 29 = exp(-3.7e8). Three of them still add up within int32.
ZERO = -(2**29)
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440054690583e-4  # of 9 bits, so that its multiples are exact; and the rest


class Format(NamedTuple):
    """How a float is laid out."""

    integer: str  # of the same width
    bits: int  # of the mantissa, without the leading one
    bias: int


FORMATS = {"float32": Format("int32", 23, 127), "float64": Format("int64", 52, 1023)}


class Wide(NamedTuple):
    """Numbers `mantissa * 2 ** exponent`, at least 0.

    Attributes:
        mantissa: Float, in [1, 2) once `normal`; never 0.
        exponent: Integer of the same width and shape; `ZERO` stands for the number zero.
    """

    mantissa: Tensor
    exponent: Tensor


def layout(mantissa: Tensor) -> Format:
    """Return how the float tensor `mantissa` is laid out."""
    return FORMATS[keras.backend.standardize_dtype(mantissa.dtype)]


def from_mask(mask: Tensor, like: Tensor) -> Wide:
    """Return one where `mask` is True and zero elsewhere, in the precision of `like`."""
    return Wide(ops.ones_like(mask, dtype=like.dtype), penalty(mask, like))


def penalty(allowed: Tensor, like: Tensor) -> Tensor:
    """Return the exponent that makes zero of what is not `allowed`, to be added."""
    return ops.cast(ops.where(allowed, 0, ZERO), layout(like).integer)


def from_log(logarithm: Tensor) -> Wide:
    """Return `exp(logarithm)`, of logarithms below 3e8; it is zero of those below -3e8, and of -inf."""
    form, limit = layout(logarithm), -ZERO * np.log(2.0)
    logarithm = ops.clip(logarithm, -limit, limit)
    power = ops.floor(logarithm * (1.0 / np.log(2.0)))
    rest = (logarithm - power * LN2_HIGH) - power * LN2_LOW  # in [0, ln 2], rounded once
    return Wide(ops.exp(rest), ops.cast(power, form.integer))


def to_log(number: Wide) -> Tensor:
    """Return the natural logarithm, -inf of zero; NaN of a mantissa that is NaN."""
    power = ops.cast(number.exponent, number.mantissa.dtype)
    logarithm = power * LN2_HIGH + (power * LN2_LOW + ops.log(number.mantissa))
    return ops.where(is_zero(number), ops.full_like(logarithm, -np.inf), logarithm)


def is_zero(number: Wide) -> Tensor:
    """Return whether numbers are zero, after whatever was added to them and multiplied."""
    return number.exponent < ZERO // 2


def normal(number: Wide) -> Wide:
    """Return the same numbers with mantissas in [1, 2)."""
    form = layout(number.mantissa)
    bits = backend.bitcast(number.mantissa, form.integer)
    one = form.bias << form.bits
    mantissa = backend.bitcast(ops.bitwise_or(ops.bitwise_and(bits, (1 << form.bits) - 1), one), number.mantissa.dtype)
    return Wide(mantissa, number.exponent + (ops.right_shift(bits, form.bits) - form.bias))


def power_of_two(exponent: Tensor, dtype: Any) -> Tensor:
    """Return `2 ** exponent` as a float, of exponents from -126 to 127; zero for -127."""
    form = FORMATS[keras.backend.standardize_dtype(dtype)]
    smallest = exponent + form.bias if form.bias == 127 else ops.where(exponent < -126, 0, exponent + form.bias)
    return backend.bitcast(ops.left_shift(smallest, form.bits), dtype)


def add(*numbers: Wide) -> Wide:
    """Return the sum; of `normal` numbers."""
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
    """Return the sum over the last axis, `(...)` of `(..., n)`."""
    mantissa, exponent = normal(numbers)
    top = ops.max(exponent, axis=-1)
    scaled = mantissa * power_of_two(ops.maximum(exponent - top[..., None], -127), mantissa.dtype)
    return normal(Wide(ops.sum(scaled, axis=-1), top))


def where(condition: Tensor, a: Wide, b: Wide) -> Wide:
    """Return `a` where `condition` is True and `b` elsewhere."""
    return Wide(ops.where(condition, a.mantissa, b.mantissa), ops.where(condition, a.exponent, b.exponent))
