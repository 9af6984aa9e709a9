"""Reads JSON as TensorFlow Serving does: its dialect, and its error texts with their byte offsets.

The dialect is RFC 8259 with ``NaN``, ``Infinity`` and ``Inf``; bytes that are not UTF-8 pass through strings; of a
key given twice the first counts; whatever follows the first value is ignored. Python's own scanner, which is written
in C, reads what it can be trusted with; the rest goes through ``strict_json``.
"""

from __future__ import annotations

import json
import re
from typing import Any

from kseq_serving.errors import InvalidArgumentError
from kseq_serving.rest import strict_json

JsonValue = Any  # None, bool, int, float, str, list or dict of these

# Python's scanner takes half a surrogate pair, and a number beyond a double's range, which are errors here.
_HALF_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F][0-9a-fA-F])\\u[dD][c-fC-F]"
)
_BIG_EXPONENT = re.compile(rb"[eE]\+?[0-9]{3}")
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_TOO_MANY_DIGITS = b"0" * 309  # more than a double's range


def parse(body: bytes) -> JsonValue:
    """The first JSON value of a body; strings hold foreign bytes as surrogate escapes.

    Raises:
        InvalidArgumentError: the body does not start with a JSON value.
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
    """Whether Python's scanner may take something that is an error; cheap, and now and then wrong."""
    return bool(
        (b"\\u" in body and _HALF_PAIR.search(body))
        or _BIG_EXPONENT.search(body)
        or _TOO_MANY_DIGITS in body.translate(_DIGITS_TO_ZERO)
    )


def first_wins(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    """The object of these members; a name's first value counts."""
    members = dict(pairs)
    return members if len(members) == len(pairs) else dict(reversed(pairs))


_DECODER = json.JSONDecoder(object_pairs_hook=first_wins)
