"""A JSON value in the text of an error, as far as it helps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from kseq_serving.rest import grisu
from kseq_serving.rest.json_writer import INDENT, encode, quote

MAX_BYTES = 256


class _NotWritableError(Exception):
    """A number that is not finite ends the text of a value."""


def excerpt(value: Any) -> str:
    """The text of a JSON value: arrays on one line, cut off once it is longer than MAX_BYTES."""
    parts: list[str] = []
    size = 0
    try:
        for part in _tokens(value, 0):
            # A token that has begun is written whole, with what stands before it.
            parts.append(part)
            size += len(encode(part))
            if size >= MAX_BYTES:
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
    """A double, in plain form up to 21 places before the point and 6 after it."""
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
