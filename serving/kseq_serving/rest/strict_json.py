"""Check of JSON documents with TensorFlow Serving's error texts and byte offsets.

The check builds no values. Regular expressions match runs of simple elements, and the stack of open containers is a
list, so neither time nor memory grows faster than the document, and no nesting exhausts Python's stack. What another
parser has found to be right is skipped.
"""

from __future__ import annotations

import enum
import re
from typing import NoReturn

from kseq_serving.rest import json_structure

MAX_DEPTH = 512  # a tensor has at most 254 dimensions
MAX_PLAIN_DIGITS = 208  # of a number that is in a double's range with any exponent of two digits


class ParseError(ValueError):
    """Error in a document.

    Args:
        reason: Text of the error.
        offset: Offset of the error, in bytes.
    """

    def __init__(self, reason: str, offset: int):
        super().__init__(f"{reason} (byte {offset})")
        self.reason = reason
        self.offset = offset


class _State(enum.IntEnum):
    START = enum.auto()
    OBJECT_START = enum.auto()
    AFTER_NAME = enum.auto()
    AFTER_COLON = enum.auto()
    AFTER_MEMBER = enum.auto()
    AFTER_MEMBER_COMMA = enum.auto()
    ARRAY_START = enum.auto()
    AFTER_ELEMENT = enum.auto()
    AFTER_ELEMENT_COMMA = enum.auto()
    DONE = enum.auto()


_INVALID_VALUE = "Invalid value."
_MISSING_NAME = "Missing a name for object member."
_TOO_BIG = "Number too big to be stored in double."
_REASONS = {
    _State.START: "The document is empty.",
    _State.OBJECT_START: _MISSING_NAME,
    _State.AFTER_NAME: "Missing a colon after a name of object member.",
    _State.AFTER_COLON: _INVALID_VALUE,
    _State.AFTER_MEMBER: "Missing a comma or '}' after an object member.",
    _State.AFTER_MEMBER_COMMA: _MISSING_NAME,
    _State.ARRAY_START: _INVALID_VALUE,
    _State.AFTER_ELEMENT: "Missing a comma or ']' after an array element.",
    _State.AFTER_ELEMENT_COMMA: _INVALID_VALUE,
}
# State in a container, by its bracket: in which its next container begins, behind a value, behind a comma.
_IN_ARRAY = _State.ARRAY_START, _State.AFTER_ELEMENT, _State.AFTER_ELEMENT_COMMA
_IN_OBJECT = _State.AFTER_COLON, _State.AFTER_MEMBER, _State.AFTER_MEMBER_COMMA
_IN = {ord("["): _IN_ARRAY, ord("{"): _IN_OBJECT}
_BEFORE_VALUE = (_State.START, _State.AFTER_COLON, _State.ARRAY_START, _State.AFTER_ELEMENT_COMMA)
# State behind a value, by the state in which the value began.
_BEHIND = {
    _State.START: _State.DONE,
    _State.AFTER_COLON: _State.AFTER_MEMBER,
    _State.ARRAY_START: _State.AFTER_ELEMENT,
    _State.AFTER_ELEMENT_COMMA: _State.AFTER_ELEMENT,
}


def _key(state: _State, byte: bytes) -> int:
    """Return the key of the tables below for a state and the next byte."""
    return state << 8 | byte[0]


_MOVES = {
    _key(_State.AFTER_NAME, b":"): _State.AFTER_COLON,
    _key(_State.AFTER_MEMBER, b","): _State.AFTER_MEMBER_COMMA,
    _key(_State.AFTER_ELEMENT, b","): _State.AFTER_ELEMENT_COMMA,
}
_OPENERS = {_key(state, b"{"): _State.OBJECT_START for state in _BEFORE_VALUE} | {
    _key(state, b"["): _State.ARRAY_START for state in _BEFORE_VALUE
}
_CLOSERS = frozenset(
    (
        _key(_State.OBJECT_START, b"}"),
        _key(_State.AFTER_MEMBER, b"}"),
        _key(_State.ARRAY_START, b"]"),
        _key(_State.AFTER_ELEMENT, b"]"),
    )
)
_NAMES = frozenset((_key(_State.OBJECT_START, b'"'), _key(_State.AFTER_MEMBER_COMMA, b'"')))
_NO_SCALARS = frozenset(b"]},:\0")

_WHITE_SPACE = re.compile(rb"[ \t\n\r]*")
_HEX4 = re.compile(rb"[0-9a-fA-F]{4}")
_DIGITS = re.compile(rb"[0-9]+")
_WORDS = {ord("n"): b"null", ord("t"): b"true", ord("f"): b"false"}

# Values that are surely right. The groups are possessive: a repetition is never tried again with fewer elements.
_ESCAPE = (
    rb'\\(?:["/\\bfnrt]|u(?:[0-9a-cA-Ce-fE-F][0-9a-fA-F]{3}|[dD][0-7c-fC-F][0-9a-fA-F]{2}'
    rb"|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))"
)
_PLAIN = re.compile(rb'(?:[^"\\\x00-\x1f]++|%b)*+' % _ESCAPE)
_STRING = b'"%b"' % _PLAIN.pattern
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+(?![0-9.eE])"
_SCALAR = rb"(?:%b|%b|true|false|null|NaN|-?Infinity)" % (_NUMBER, _STRING)
_SPACE = rb"[ \t\n\r]*+"
_RUN = 64  # most elements of one match, during which Python's lock is held


def _element(inner: bytes) -> bytes:
    """Return the pattern of a scalar, or of a container whose elements match `inner`."""
    array = rb"\[%b(?:%b%b(?:,%b(?!\])|(?=\])))*+\]" % (_SPACE, inner, _SPACE, _SPACE)
    table = rb"\{%b(?:%b%b:%b%b%b(?:,%b(?!\})|(?=\})))*+\}" % (
        _SPACE,
        _STRING,
        _SPACE,
        _SPACE,
        inner,
        _SPACE,
        _SPACE,
    )
    return rb"(?:%b|%b|%b)" % (_SCALAR, array, table)


_NESTED = _element(_element(_SCALAR))
# Runs behind a comma, by the state there.
_RUNS = {
    _State.AFTER_ELEMENT_COMMA: re.compile(rb"(?:%b%b%b,){1,%d}+" % (_SPACE, _NESTED, _SPACE, _RUN)),
    _State.AFTER_MEMBER_COMMA: re.compile(
        rb"(?:%b%b%b:%b%b%b,){1,%d}+" % (_SPACE, _STRING, _SPACE, _SPACE, _NESTED, _SPACE, _RUN)
    ),
}
# Up to the next number outside strings that has many digits or a large exponent.
_NOT_BIG = re.compile(
    rb'(?:[^"0-9]++|"(?:[^"\\]++|\\.)*+"|[0-9]{1,%d}+(?:\.[0-9]*+)?+(?![0-9]|[eE]\+?[0-9]{3}))*+' % MAX_PLAIN_DIGITS,
    re.DOTALL,
)
_ANY_NUMBER = re.compile(rb"[0-9]++(?:\.[0-9]*+)?+(?:[eE][+-]?[0-9]++)?+")


def check(data: bytes, known: int = 0) -> None:
    """Check that a document starts with a JSON value; a NUL byte ends the document.

    Args:
        data: The document.
        known: Number of its first brackets, commas and colons that need no check, nor what stands before them.

    Raises:
        ParseError: If it does not.
    """
    _Checker(data).run(known)


def too_big(data: bytes) -> int:
    """Return the offset of the first number beyond a double's range, if all before it is right."""
    return _Checker(data).too_big


class _Checker:
    def __init__(self, data: bytes):
        self._data = data + b"\0"
        self._at = 3 if data.startswith(b"\xef\xbb\xbf") else 0  # skip a byte order mark
        self.too_big = self._find_too_big()

    def run(self, known: int) -> None:
        state, stack = self._behind(known)  # for each open container, the state it began in
        while state is not _State.DONE:
            if state in _RUNS:
                self._skip_run(_RUNS[state])
            self._skip(_WHITE_SPACE)
            byte = self._data[self._at]
            key = state << 8 | byte
            if key in _MOVES:
                self._at += 1
                state = _MOVES[key]
            elif key in _CLOSERS:
                self._at += 1
                state = _BEHIND[stack.pop()]
            elif key in _OPENERS:
                if len(stack) == MAX_DEPTH:
                    self._fail(f"Nested deeper than {MAX_DEPTH} levels.")
                self._at += 1
                stack.append(state)
                state = _OPENERS[key]
            elif key in _NAMES:
                self._string()
                state = _State.AFTER_NAME
            elif state in _BEFORE_VALUE and byte not in _NO_SCALARS:
                self._scalar(byte)
                state = _BEHIND[state]
            else:
                self._fail(_REASONS[state])

    def _behind(self, known: int) -> tuple[_State, list[_State]]:
        """Go to a place; return the state there, and for each open container the state that it began in."""
        if not known:
            return _State.START, []
        opened, self._at = json_structure.follow(self._data, known)
        stack = [_State.START, *(_IN[bracket][0] for bracket in opened[:-1])][: len(opened)]
        last = self._data[self._at - 1]
        if last == ord(":"):
            return _State.AFTER_COLON, stack
        if last in b"[{":
            return _State.ARRAY_START if last == ord("[") else _State.OBJECT_START, stack
        if not opened:
            return _State.DONE, stack
        _, behind_value, behind_comma = _IN[opened[-1]]
        return behind_comma if last == ord(",") else behind_value, stack

    def _find_too_big(self) -> int:
        """Return the offset of the first number beyond a double's range, if all before it is right."""
        at = 0
        while (at := _NOT_BIG.match(self._data, at).end()) < len(self._data):  # pyright: ignore[reportOptionalMemberAccess]
            found = _ANY_NUMBER.match(self._data, at)
            if not found:  # a string without an end
                break
            if float(found[0]) == float("inf"):
                return at - (self._data[at - 1 : at] == b"-")
            at = found.end()
        return len(self._data)

    def _skip_run(self, pattern: re.Pattern[bytes]) -> None:
        """Skip simple elements or members that a comma follows."""
        while found := pattern.match(self._data, self._at):
            self._at = found.end()
            if self._at > self.too_big:
                self._fail(_TOO_BIG, self.too_big)

    def _scalar(self, byte: int) -> None:
        if byte == ord('"'):
            self._string()
        elif byte in _WORDS:
            self._expect(_WORDS[byte])
        else:
            self._number()

    def _string(self) -> None:
        self._at += 1
        while True:
            self._skip(_PLAIN)
            byte = self._data[self._at]
            if byte == ord('"'):
                self._at += 1
                return
            if byte == ord("\\"):
                self._escape()
            elif not byte:
                self._fail("Missing a closing quotation mark in string.")
            else:
                self._fail("Invalid escape character in string.")

    def _escape(self) -> None:
        """Fail at the escape that `_PLAIN` does not match."""
        start = self._at
        if self._data[start + 1] != ord("u"):
            self._fail("Invalid escape character in string.", start)
        self._at += 2
        if 0xD800 <= self._hex4(start) <= 0xDBFF:
            if self._data[self._at : self._at + 2] == b"\\u":
                self._at += 2
                self._hex4(start)
            self._fail("The surrogate pair in string is invalid.", start)

    def _hex4(self, start: int) -> int:
        digits = _HEX4.match(self._data, self._at)
        if not digits:
            self._fail("Incorrect hex digit after \\u escape in string.", start)
        self._at = digits.end()
        return int(digits[0], 16)

    def _number(self) -> None:
        start = self._at
        self._take(b"-")
        if not self._take(b"0") and not self._skip(_DIGITS):
            self._not_finite()
            return
        if self._take(b".") and not self._skip(_DIGITS):
            self._fail("Miss fraction part in number.")
        if self._take(b"e") or self._take(b"E"):
            if not self._take(b"+"):
                self._take(b"-")
            if not self._skip(_DIGITS):
                self._fail("Miss exponent in number.")
        if float(self._data[start : self._at]) in (float("inf"), float("-inf")):
            self._fail(_TOO_BIG, start)

    def _not_finite(self) -> None:
        if self._take(b"N"):
            self._expect(b"aN")
        elif self._take(b"I"):
            self._expect(b"nf")
            if self._data[self._at] == ord("i"):
                self._expect(b"inity")
        else:
            self._fail(_INVALID_VALUE)

    def _expect(self, word: bytes) -> None:
        for letter in word:
            if self._data[self._at] != letter:
                self._fail(_INVALID_VALUE)
            self._at += 1

    def _take(self, byte: bytes) -> bool:
        found = self._data[self._at] == byte[0]
        self._at += found
        return found

    def _skip(self, pattern: re.Pattern[bytes]) -> bool:
        """Skip what a pattern matches, and return whether that is anything."""
        found = pattern.match(self._data, self._at)
        if not found:
            return False
        self._at = found.end()
        return True

    def _fail(self, reason: str, offset: int | None = None) -> NoReturn:
        raise ParseError(reason, self._at if offset is None else offset)
