"""JSON reader with TensorFlow Serving's dialect and error texts.

The dialect is RFC 8259 with `NaN`, `Infinity` and `Inf`. Strings may hold bytes that are not UTF-8, the first of equal
keys counts, and everything behind the first value is ignored. Python's own scanner, written in C, reads most bodies.
`strict_json` reads the others: those that the scanner refuses, or may accept although they are wrong.
"""

from __future__ import annotations

import json
import re
from typing import Any

from kseq_serving.errors import InvalidArgumentError
from kseq_serving.rest import strict_json

JsonValue = Any  # None, bool, int, float, str, list or dict of these

# Python's scanner accepts half a surrogate pair, and a number beyond a double's range, which are errors here.
_HALF_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F][0-9a-fA-F])\\u[dD][c-fC-F]"
)
_BIG_EXPONENT = re.compile(rb"[eE]\+?[0-9]{3}")
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_TOO_MANY_DIGITS = b"0" * 309  # beyond a double's range


def parse(body: bytes) -> JsonValue:
    """Return the first JSON value of a body; in strings, bytes that are not UTF-8 are surrogate escapes.

    Raises:
        InvalidArgumentError: If the body does not start with a JSON value.
    """
    if not body:
        raise InvalidArgumentError("JSON Parse error: The document is empty")
    if not _is_suspect(body):
        try:
            return _DECODER.raw_decode(body.decode("utf-8", "surrogateescape").lstrip(" \t\n\r"))[0]
        except (ValueError, RecursionError):
            pass
    try:
        return strict_json.Parser(body).parse()
    except strict_json.ParseError as error:
        raise InvalidArgumentError(f"JSON Parse error: {error.reason} at offset: {error.offset}") from error


def _is_suspect(body: bytes) -> bool:
    """Return whether Python's scanner might accept an error in the body: a quick check with false alarms."""
    return bool(
        (b"\\u" in body and _HALF_PAIR.search(body))
        or _BIG_EXPONENT.search(body)
        or _TOO_MANY_DIGITS in body.translate(_DIGITS_TO_ZERO)
    )


def first_wins(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    """Make an object of members; of equal names the first one counts."""
    members = dict(pairs)
    return members if len(members) == len(pairs) else dict(reversed(pairs))


_DECODER = json.JSONDecoder(object_pairs_hook=first_wins)
