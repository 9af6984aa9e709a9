"""JSON reader with TensorFlow Serving's dialect and error texts.

The dialect is RFC 8259 with `NaN`, `Infinity` and `Inf`. Strings may hold bytes that are not UTF-8, the first of equal
keys counts, and everything behind the first value is ignored. Python's own scanner, written in C, reads all documents;
what it does not know of the dialect is rewritten before. `strict_json` finds the error in documents that it refuses.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from kseq_serving.errors import InvalidArgumentError
from kseq_serving.rest import json_structure, strict_json

JsonValue = Any  # None, bool, int, float, str, list or dict of these

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\n\r]*")
# Python's scanner accepts half a surrogate pair, and a number beyond a double's range, which are errors here.
_HALF_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F][0-9a-fA-F])\\u[dD][c-fC-F]"
)
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})|u(?P<high>[dD][89abAB][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_NO_ESCAPE = rb"\x"
_BIG_EXPONENT = re.compile(rb"[0-9.][eE]\+?[0-9]{3}")  # inside a string, "page1234" is none
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_TOO_MANY_DIGITS = b"0" * (strict_json.MAX_PLAIN_DIGITS + 1)
_SHORT_FORM = re.compile(rb"Inf(?!inity)|-NaN")
_STRING_OR_SHORT_FORM = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+|(?P<short>Inf(?!i)|-NaN)', re.DOTALL)
_LONG_FORMS = {b"Inf": b"Infinity", b"-NaN": b"NaN"}


class _TooBigError(ValueError):
    """Signal that a number is beyond a double's range."""


def parse(body: bytes) -> JsonValue:
    """Return the first JSON value of a body; in strings, bytes that are not UTF-8 are surrogate escapes.

    Raises:
        InvalidArgumentError: If the body does not start with a JSON value.
    """
    if not body:
        raise InvalidArgumentError("JSON Parse error: The document is empty")
    try:
        plain = _rewritten(body)
        text = plain.decode("utf-8", "surrogateescape")
        decoder = _CHECKED_DECODER if _may_be_too_big(body) else _DECODER
        try:
            value = decoder.raw_decode(text, _SPACE.match(text).end())[0]  # pyright: ignore[reportOptionalMemberAccess]
        except (ValueError, RecursionError) as error:
            strict_json.check(body, _known(error, body, text))
            raise InvalidArgumentError("JSON Parse error: The document cannot be read.") from None
        if not isinstance(value, dict | list):
            strict_json.check(body)  # the scanner reads "1e" as 1 with text behind it
        return value
    except strict_json.ParseError as error:
        raise InvalidArgumentError(f"JSON Parse error: {error.reason} at offset: {error.offset}") from error


def _known(error: ValueError | RecursionError, body: bytes, text: str) -> int:
    """Return how many brackets, commas and colons of a body are right, by the error of Python's scanner in its text."""
    if isinstance(error, json.JSONDecodeError):
        valid = text[: error.pos].encode("utf-8", "surrogateescape")
    elif isinstance(error, _TooBigError):
        valid = body[: strict_json.too_big(body)]
    else:
        valid = body  # up to where it is nested too deep
    return json_structure.count(valid, strict_json.MAX_DEPTH)


def _rewritten(body: bytes) -> bytes:
    """Return a body as Python's scanner reads it, which fails at half a surrogate pair then."""
    if body.startswith(_BYTE_ORDER_MARK):
        body = body[len(_BYTE_ORDER_MARK) :]
    # Behind an escaped backslash, what looks like half a pair is text, so the quick search cannot tell.
    if b"\\u" in body and (b"\\\\u" in body or _HALF_PAIR.search(body)):

        def replace(escape: re.Match[bytes]) -> bytes:
            if escape["high"]:
                return _NO_ESCAPE
            # A lone low surrogate stands for its three bytes in UTF-8.
            low = escape["low"]
            return chr(int(low, 16)).encode("utf-8", "surrogatepass") if low else escape[0]

        body = _ESCAPE.sub(replace, body)
    if (b"Inf" in body or b"-NaN" in body) and _SHORT_FORM.search(body):
        body = _STRING_OR_SHORT_FORM.sub(lambda found: _LONG_FORMS.get(found["short"], found[0]), body)
    return body


def _may_be_too_big(body: bytes) -> bool:
    """Return whether a number may be beyond a double's range: a quick check with false alarms."""
    if _BIG_EXPONENT.search(body):
        return True
    return len(body) >= len(_TOO_MANY_DIGITS) and _TOO_MANY_DIGITS in body.translate(_DIGITS_TO_ZERO)


def _checked_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _TooBigError
    return number


def _checked_int(text: str) -> int:
    _checked_float(text)
    return int(text)


def first_wins(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    """Make an object of members; of equal names the first one counts."""
    members = dict(pairs)
    return members if len(members) == len(pairs) else dict(reversed(pairs))


_DECODER = json.JSONDecoder(object_pairs_hook=first_wins)
_CHECKED_DECODER = json.JSONDecoder(object_pairs_hook=first_wins, parse_float=_checked_float, parse_int=_checked_int)
