"""Writes JSON as TensorFlow Serving does: number forms, escapes and layout, down to the white space."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

INDENT = "    "
MAX_SHOWN_BYTES = 256  # of a value in an error's text

_ESCAPED = re.compile(r'["\\\x00-\x1f]')
_ESCAPES = {chr(code): f"\\u{code:04X}" for code in range(0x20)} | {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}
_EXACT_DIGITS = {np.dtype(np.float32): 9, np.dtype(np.float64): 17}
_SHORT_DIGITS = 6


def quote(text: str) -> str:
    """A JSON string; only what must be escaped is."""
    return f'"{_ESCAPED.sub(lambda found: _ESCAPES[found[0]], text)}"'


def encode(text: str) -> bytes:
    """The bytes of a JSON text, foreign bytes as they came."""
    return text.encode("utf-8", "surrogateescape")


def error_body(message: str) -> bytes:
    """The body of every answer that is no success."""
    return encode(f'{{\n{INDENT}"error": {quote(message)}\n}}')


def format_floats(values: np.ndarray) -> list[str]:
    """The numbers of a flat float32 or float64 array: six digits where they say all, else nine or seventeen.

    A whole number keeps a ``.0``; what is not finite is NaN, Infinity or -Infinity; denormals are 0.
    """
    values = flush_denormals(values)
    if not len(values):
        return []
    exact = _EXACT_DIGITS[values.dtype]
    with np.errstate(invalid="ignore"):
        short = _round_trips(values)
        whole = values == np.trunc(values)
        size = np.abs(values)
        digits = np.where(short, _SHORT_DIGITS, exact)
        # '%g' writes a whole number without a fraction as long as it has digits for it.
        point = whole & (size < 10.0**digits)
    forms = np.where(short, f"%.{_SHORT_DIGITS}g", f"%.{exact}g")
    forms[point] = "%.1f"
    texts = (" ".join(forms.tolist()) % tuple(values.tolist())).split(" ")
    for index in np.flatnonzero(~np.isfinite(values)).tolist():
        texts[index] = not_finite(float(values[index]))
    return texts


def flush_denormals(values: np.ndarray) -> np.ndarray:
    """Zero, with its sign, for every number below the normal ones: the threads of TensorFlow Serving compute so."""
    tiny = np.abs(values) < np.finfo(values.dtype).tiny
    return np.where(tiny, np.copysign(values.dtype.type(0), values), values) if tiny.any() else values


def not_finite(value: float) -> str:
    """NaN, Infinity or -Infinity."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _round_trips(values: np.ndarray) -> np.ndarray:
    """Whether each number is the nearest one to its six leading decimal digits."""
    if values.dtype == np.float64:
        return np.array([float(f"{value:.6g}") == value for value in values.tolist()])
    # In double precision the six digits of a single-precision number are computed exactly enough.
    wide = values.astype(np.float64)
    size = np.abs(wide)
    exponent = np.floor(np.log10(np.where((size > 0) & np.isfinite(size), size, 1.0)))
    scale = 10.0 ** (exponent - (_SHORT_DIGITS - 1))
    return (np.round(wide / scale) * scale).astype(values.dtype) == values


class _NotWritableError(Exception):
    """A number that is not finite ends the text of a value."""


def shown(value: Any) -> str:
    """A JSON value for an error's text: arrays on one line, cut off once it is longer than MAX_SHOWN_BYTES."""
    parts: list[str] = []
    size = 0
    try:
        for part in _tokens(value, 0):
            # A token that has begun is written whole, with what stands before it.
            parts.append(part)
            size += len(encode(part))
            if size >= MAX_SHOWN_BYTES:
                break
    except _NotWritableError:
        pass
    return "".join(parts)


def _tokens(value: Any, depth: int, before: str = "") -> Iterator[str]:
    """The tokens of a value, each with the separator that stands before it."""
    if isinstance(value, dict):
        yield before + "{"
        inner, outer = "\n" + INDENT * (depth + 1), "\n" + INDENT * depth
        for index, (name, member) in enumerate(value.items()):
            yield ("," if index else "") + inner + quote(name)
            yield from _tokens(member, depth + 1, ": ")
        yield (outer if value else "") + "}"
    elif isinstance(value, list):
        yield before + "["
        for index, element in enumerate(value):
            yield from _tokens(element, depth + 1, ", " if index else "")
        yield "]"
    elif isinstance(value, str):
        yield before + quote(value)
    elif isinstance(value, float) and not math.isfinite(value):
        yield before
        raise _NotWritableError
    else:
        yield before + _shown_scalar(value)


def _shown_scalar(value: bool | int | float | None) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return str(value)
    return _shown_float(float(value))


def _shown_float(value: float) -> str:
    """The shortest digits that say a double, in plain form up to 21 places before the point and 6 after it."""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0") or "0"
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len((whole + fraction).lstrip("0")))
    digits = digits.rstrip("0") or "0"
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    if value == 0:
        return sign + "0.0"
    if len(digits) <= point <= 21:
        return f"{sign}{digits.ljust(point, '0')}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1}"
