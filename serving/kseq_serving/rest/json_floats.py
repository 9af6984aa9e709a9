"""Texts of many float32 numbers at once, digit for digit those of TensorFlow Serving.

Python needs some tenths of a microsecond to format a number, and holds its lock meanwhile: for an answer of a thousand
numbers, that is most of a request's time. NumPy formats them several times as fast: as integers of 64 bits, each of
eight characters, in which zero bytes stand for characters that a number does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

_DIGITS, _SHORT_DIGITS = 9, 6
_START, _END = -13, _SHORT_DIGITS  # exponents of ten of the numbers that are formatted here
_FIXED = -4  # smallest exponent of the numbers that are written without one


def _words(texts: Sequence[str], start: int = 0) -> np.ndarray:
    """Return texts of up to eight characters as integers, the first character in the byte `start` from below."""
    return np.array([int.from_bytes(b"\0" * start + text.encode(), "little") for text in texts], np.uint64)


_POWERS = np.array([float(f"1e{power}") for power in range(_DIGITS - _START)])
_BOUNDS = np.array([float(f"1e{power}") for power in range(_START, _END)])
_FOUR_DIGITS = _words([f"{number:04}" for number in range(10_000)])
_FOUR_DIGITS_LOW = _words([f"{number:04}" for number in range(10_000)], start=4)
_STRIPPED = _words([f"{number:04}".rstrip("0") for number in range(10_000)])
_STRIPPED_LOW = _words([f"{number:04}".rstrip("0") for number in range(10_000)], start=4)
_FIRST_DIGIT = _words([f" \0\0\0\0\0\0{digit}" for digit in range(10)])
(_MINUS,) = _words("-", start=1)
# By exponent. Those below zero come last, where negative indices find them.
_ALL = [*range(_END), *range(_START, 0)]
_BEFORE = _words(["0." + "0" * (-1 - power) if _FIXED <= power < 0 else "" for power in _ALL], start=2)
_POINT = _words(["" if _FIXED <= power < 0 else "." for power in _ALL])
_POINT_ALONE = _words([".0" if power >= 0 else "" for power in _ALL])
_EXPONENT = _words([f"e-{-power:02}" if power < _FIXED else "" for power in _ALL])
_IS_WHOLE = np.array([2 ** (8 * max(power, 0)) - 1 for power in _ALL], np.uint64)


def texts(values: np.ndarray, one_by_one: Callable[[np.ndarray], list[str]]) -> list[str]:
    """Return the texts of numbers `(size,)`, float32.

    Args:
        values: The numbers.
        one_by_one: Function that returns the texts of a few unusual ones: very small, very large or not finite.
    """
    digits, exponent, is_known = _digits(values)
    first, others = np.divmod(digits, 10**8)
    left, right = np.divmod(others, 10**4)
    high = _FOUR_DIGITS.take(left)
    is_whole = _IS_WHOLE.take(exponent)
    fraction = np.where(right, high | _STRIPPED_LOW.take(right), _STRIPPED.take(left)) & ~is_whole
    # A space, sign, leading zeros, first digit; other digits before the point; point; digits behind it; exponent.
    words = np.empty((len(values), 5), np.uint64)
    words[:, 0] = _BEFORE.take(exponent) | _FIRST_DIGIT.take(first)
    words[np.signbit(values), 0] |= _MINUS
    words[:, 1] = (high | _FOUR_DIGITS_LOW.take(right)) & is_whole
    words[:, 2] = np.where(fraction, _POINT.take(exponent), _POINT_ALONE.take(exponent))
    words[:, 3] = fraction
    words[:, 4] = _EXPONENT.take(exponent)
    written = words.tobytes().translate(None, b"\0").decode().split()
    if not is_known.all():
        unknown = np.flatnonzero(~is_known)
        for index, text in zip(unknown.tolist(), one_by_one(values[unknown]), strict=True):
            written[index] = text
    return written


def _digits(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each number its nine digits, its exponent of ten, and whether these are known to be right."""
    size = np.abs(values)
    is_zero = size == 0
    is_known = ((size >= _BOUNDS[0]) & (size < _POWERS[_END])) | is_zero
    wide = np.where(is_known & ~is_zero, size, np.float32(1)).astype(np.float64)
    exponent = np.searchsorted(_BOUNDS, wide, side="right") + (_START - 1)
    scale = _POWERS.take(_SHORT_DIGITS - 1 - exponent)
    short = np.rint(wide * scale)
    is_short = (short / scale).astype(np.float32) == wide
    exact = wide * _POWERS.take(_DIGITS - 1 - exponent)
    digits = np.rint(exact)
    # Products with powers of ten above 10^12 are rounded, so that a number near halfway could get the wrong digit.
    is_halfway = (np.abs(exact - digits) > 0.499999) & (exponent < _FIXED)
    is_known &= is_short | ~is_halfway
    digits = np.where(is_short, short * 10.0 ** (_DIGITS - _SHORT_DIGITS), digits)
    carried = digits >= 10.0**_DIGITS  # 9.99999975e-05 is written 0.0001
    digits = np.where(is_zero, 0.0, np.where(carried, digits / 10.0, digits))
    return digits.astype(np.int64), exponent + carried, is_known
