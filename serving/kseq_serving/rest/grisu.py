"""Grisu2: the digits that RapidJSON, the JSON library of TensorFlow Serving, prints a double with.

The digits identify the number and are nearly always as few as possible. For a number with many digits they are often
not the nearest such digits: 2^64 is printed as 18446744073709553000.

Reference: Printing Floating-Point Numbers Quickly and Accurately with Integers, Florian Loitsch, 2010.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import NamedTuple

_BITS = 64  # of a normalized significand
_HIDDEN_BIT = 1 << 52
_MIN_EXPONENT, _STEP = -348, 8  # of the powers of ten in RapidJSON's table
_MAX_PLACES = 9  # decimal places up to which the last digit is rounded; RapidJSON 1.1 has no larger power of ten
_LOG10_2 = 0.30102999566398114


class _Number(NamedTuple):
    """Number `significand * 2**exponent`."""

    significand: int
    exponent: int

    def normalized(self) -> _Number:
        shift = _BITS - self.significand.bit_length()
        return _Number(self.significand << shift, self.exponent - shift)

    def times(self, other: _Number) -> _Number:
        product = self.significand * other.significand
        return _Number((product >> _BITS) + (product >> (_BITS - 1) & 1), self.exponent + other.exponent + _BITS)


def digits(value: float) -> tuple[str, int]:
    """Return the digits of a positive finite number, and the power of ten to multiply them by."""
    fraction, exponent = math.frexp(value)
    number = _Number(int(fraction * 2**53), exponent - 53)
    if exponent < -1021:  # a denormal has fewer bits
        number = _Number(int(math.ldexp(value, 1074)), -1074)
    upper = _Number(2 * number.significand + 1, number.exponent - 1).normalized()
    if number.significand == _HIDDEN_BIT:  # the next lower double is only half as far away
        lower = _Number(4 * number.significand - 1, number.exponent - 2)
    else:
        lower = _Number(2 * number.significand - 1, number.exponent - 1)
    lower = _Number(lower.significand << (lower.exponent - upper.exponent), upper.exponent)
    power = _MIN_EXPONENT + _STEP * ((math.ceil((-61 - upper.exponent) * _LOG10_2 + 347) >> 3) + 1)
    scale = _power_of_ten(power)
    highest = upper.times(scale)
    highest = highest._replace(significand=highest.significand - 1)
    below = highest.significand - (lower.times(scale).significand + 1)
    away = highest.significand - number.normalized().times(scale).significand
    text, more = _generate(highest, below, away)
    return text, more - power


@functools.cache
def _power_of_ten(power: int) -> _Number:
    """Return a power of ten, rounded to a significand of 64 bits."""
    exact = Fraction(10) ** power
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length() - _BITS
    number = _Number(round(exact / Fraction(2) ** exponent), exponent)
    if number.significand.bit_length() > _BITS:
        number = _Number(round(exact / Fraction(2) ** (exponent + 1)), exponent + 1)
    return number.normalized()


def _generate(highest: _Number, below: int, away: int) -> tuple[str, int]:
    """Return the digits and power of ten of a short number within the rounding interval of the exact one.

    Args:
        highest: Upper end of the interval.
        below: Length of the interval.
        away: Distance from the exact number up to `highest`.
    """
    one = 1 << -highest.exponent
    whole, rest = divmod(highest.significand, one)
    text, kappa = "", len(str(whole))
    while kappa > 0:
        kappa -= 1
        digit, whole = divmod(whole, 10**kappa)
        text += str(digit)
        left = whole * one + rest
        if left <= below:
            return _rounded(text, below, left, 10**kappa * one, away), kappa
    while True:
        rest, below, away = rest * 10, below * 10, away * 10
        digit, rest = divmod(rest, one)
        text += str(digit)
        kappa -= 1
        if rest < below:
            return _rounded(text, below, rest, one, away if -kappa < _MAX_PLACES else 0), kappa


def _rounded(text: str, below: int, rest: int, unit: int, away: int) -> str:
    """Decrement the last digit as long as that comes closer to the exact number."""
    last = int(text[-1])
    while rest < away and below - rest >= unit and (rest + unit < away or away - rest > rest + unit - away):
        last -= 1
        rest += unit
    return f"{text[:-1]}{last}"
