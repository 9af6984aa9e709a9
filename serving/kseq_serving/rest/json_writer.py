"""JSON strings and numbers, written exactly as by TensorFlow Serving."""

from __future__ import annotations

import math
import re
import threading

import numpy as np

from kseq_serving.rest import json_floats

INDENT = "    "

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
_TINY = {dtype: float(np.finfo(dtype).tiny) for dtype in _EXACT_DIGITS}
_FEW = 8

# NumPy lets go of Python's lock in each operation on more than 500 numbers. Threads that format at the same time would
# take turns after each, and write half as many answers in all, so one does at a time.
_MANY = 501
FORMATTING = threading.Lock()


def quote(text: str) -> str:
    """Return a JSON string, in which only the required characters are escaped."""
    return f'"{_ESCAPED.sub(lambda found: _ESCAPES[found[0]], text)}"'


def encode(text: str) -> bytes:
    """Encode a JSON text as UTF-8; surrogate escapes become the bytes that they stand for."""
    return text.encode("utf-8", "surrogateescape")


def replace_foreign(text: str) -> str:
    """Replace the surrogate escapes in a text, for a field that must be valid UTF-8."""
    return encode(text).decode("utf-8", "replace")


def error_body(message: str) -> bytes:
    """Return the body of an error response."""
    return encode(f'{{\n{INDENT}"error": {quote(message)}\n}}')


def format_floats(values: np.ndarray) -> list[str]:
    """Return the texts of the numbers in a flat float32 or float64 array.

    A number has six digits if these identify it, else nine (float32) or seventeen (float64). Whole numbers end in
    `.0`, numbers that are not finite are NaN, Infinity or -Infinity, and denormals are 0.
    """
    if len(values) <= _FEW:
        return [_format_float(value, values.dtype) for value in values.tolist()]
    if len(values) < _MANY:
        return _format_some(values)
    with FORMATTING:
        return json_floats.texts(values, _format_some) if values.dtype == np.float32 else _format_some(values)


def _format_some(values: np.ndarray) -> list[str]:
    values = flush_denormals(values)
    exact = _EXACT_DIGITS[values.dtype]
    with np.errstate(invalid="ignore"):
        short = _round_trips(values)
        whole = values == np.trunc(values)
        size = np.abs(values)
        digits = np.where(short, _SHORT_DIGITS, exact)
        # '%g' writes these whole numbers without the `.0`; larger ones have an exponent.
        point = whole & (size < 10.0**digits)
    forms = np.where(short, f"%.{_SHORT_DIGITS}g", f"%.{exact}g")
    forms[point] = "%.1f"
    texts = (" ".join(forms.tolist()) % tuple(values.tolist())).split(" ")
    for index in np.flatnonzero(~np.isfinite(values)).tolist():
        texts[index] = not_finite(float(values[index]))
    return texts


def _format_float(value: float, dtype: np.dtype) -> str:
    """Return the text of one number, equal to that of `format_floats` but without NumPy's overhead."""
    if not math.isfinite(value):
        return not_finite(value)
    if abs(value) < _TINY[dtype]:
        return "-0.0" if math.copysign(1.0, value) < 0 else "0.0"
    text = f"{value:.{_SHORT_DIGITS}g}"
    digits = _SHORT_DIGITS
    if dtype.type(float(text)) != value:
        digits = _EXACT_DIGITS[dtype]
        text = f"{value:.{digits}g}"
    # '%g' writes these whole numbers without the `.0`; larger ones have an exponent.
    return f"{value:.1f}" if value == math.trunc(value) and abs(value) < 10.0**digits else text


def flush_denormals(values: np.ndarray) -> np.ndarray:
    """Replace denormal numbers by a zero of the same sign, as the threads of TensorFlow Serving do."""
    tiny = np.abs(values) < _TINY[values.dtype]
    return np.where(tiny, np.copysign(values.dtype.type(0), values), values) if tiny.any() else values


def not_finite(value: float) -> str:
    """Return the text of a number that is not finite: NaN, Infinity or -Infinity."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _round_trips(values: np.ndarray) -> np.ndarray:
    """Return for each number whether its six leading decimal digits identify it."""
    if values.dtype == np.float64:
        return np.array([float(f"{value:.6g}") == value for value in values.tolist()])
    # Double precision is exact enough to find the six digits of a float32.
    wide = values.astype(np.float64)
    size = np.abs(wide)
    exponent = np.floor(np.log10(np.where((size > 0) & np.isfinite(size), size, 1.0)))
    scale = 10.0 ** (exponent - (_SHORT_DIGITS - 1))
    return (np.round(wide / scale) * scale).astype(values.dtype) == values
