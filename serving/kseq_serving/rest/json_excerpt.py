"""Excerpts of JSON values for error texts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from kseq_serving.rest import grisu
from kseq_serving.rest.json_writer import INDENT, encode, quote

MAX_BYTES = 256


class _NotWritableError(Exception):
    """Signal that the text of a value ends, since RapidJSON writes no numbers that are not finite."""


def excerpt(value: Any) -> str:
    """Return the text of a JSON value, with arrays on one line, cut off behind `MAX_BYTES`."""
    parts: list[str] = []
    size = 0
    try:
        for part in _tokens(value, 0):
            # The last token is written whole, including the separator before it.
            parts.append(part)
            size += len(encode(part))
            if size >= MAX_BYTES:
                break
    except _NotWritableError:
        pass
    return "".join(parts)


def _tokens(value: Any, depth: int, before: str = "") -> Iterator[str]:
    """Yield the tokens of a value, each with the separator before it."""
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
        yield before + _scalar(value)


def _scalar(value: bool | int | float | None) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return str(value)
    return _float(float(value))


def _float(value: float) -> str:
    """Return the text of a double; numbers from 1e-6 to below 1e21 have no exponent."""
    if value == 0:
        return str(value)
    digits, exponent = grisu.digits(abs(value))
    sign = "-" if value < 0 else ""
    point = len(digits) + exponent
    if len(digits) <= point <= 21:
        return f"{sign}{digits.ljust(point, '0')}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{point - 1}"
