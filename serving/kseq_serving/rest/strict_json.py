"""JSON parser with TensorFlow Serving's error texts and byte offsets.

It has its own stack, so deep nesting cannot exhaust Python's. It is slow, and used only where the fast reader fails.
"""

from __future__ import annotations

import enum
import re
from typing import Any, NoReturn

MAX_DEPTH = 512  # a tensor has at most 254 dimensions


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


class _State(enum.Enum):
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
# Punctuation between values: (state, byte) -> next state.
_MOVES = {
    (_State.AFTER_NAME, b":"): _State.AFTER_COLON,
    (_State.AFTER_MEMBER, b","): _State.AFTER_MEMBER_COMMA,
    (_State.AFTER_ELEMENT, b","): _State.AFTER_ELEMENT_COMMA,
}
_CLOSERS = {
    (_State.OBJECT_START, b"}"),
    (_State.AFTER_MEMBER, b"}"),
    (_State.ARRAY_START, b"]"),
    (_State.AFTER_ELEMENT, b"]"),
}
_BEFORE_NAME = (_State.OBJECT_START, _State.AFTER_MEMBER_COMMA)
_BEFORE_VALUE = (_State.START, _State.AFTER_COLON, _State.ARRAY_START, _State.AFTER_ELEMENT_COMMA)
_PUNCTUATION = (b"]", b"}", b",", b":")

_WHITE_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX4 = re.compile(rb"[0-9a-fA-F]{4}")
_DIGITS = re.compile(rb"[0-9]+")
_WORDS = {b"n": (b"null", None), b"t": (b"true", True), b"f": (b"false", False)}
_ESCAPES = {b'"': '"', b"/": "/", b"\\": "\\", b"b": "\b", b"f": "\f", b"n": "\n", b"r": "\r", b"t": "\t"}


class Parser:
    """Parser of one document.

    Args:
        data: The document; a NUL byte ends it.
    """

    def __init__(self, data: bytes):
        self._data = data
        self._at = 3 if data.startswith(b"\xef\xbb\xbf") else 0  # skip a byte order mark
        self._stack: list[tuple[_State, list[Any]]] = []  # for each open container, the state it began in and its items
        self._state = _State.START
        self._root: Any = None

    def parse(self) -> Any:
        """Return the first value of the document.

        Raises:
            ParseError: If the document does not start with a JSON value.
        """
        while self._state is not _State.DONE:
            self._skip(_WHITE_SPACE)
            byte = self._peek()
            if (self._state, byte) in _MOVES:
                self._at += 1
                self._state = _MOVES[self._state, byte]
            elif (self._state, byte) in _CLOSERS:
                self._at += 1
                self._close()
            elif self._state in _BEFORE_NAME and byte == b'"':
                self._stack[-1][1].append(self._string())
                self._state = _State.AFTER_NAME
            elif self._state in _BEFORE_VALUE and byte and byte not in _PUNCTUATION:
                self._value(byte)
            else:
                self._fail(_REASONS[self._state])
        return self._root

    def _value(self, byte: bytes) -> None:
        if byte in (b"{", b"["):
            if len(self._stack) == MAX_DEPTH:
                self._fail(f"Nested deeper than {MAX_DEPTH} levels.")
            self._at += 1
            self._stack.append((self._state, []))
            self._state = _State.OBJECT_START if byte == b"{" else _State.ARRAY_START
        elif byte == b'"':
            self._add(self._string(), self._state)
        elif byte in _WORDS:
            self._add(self._word(*_WORDS[byte]), self._state)
        else:
            self._add(self._number(), self._state)

    def _close(self) -> None:
        is_object = self._state in (_State.OBJECT_START, _State.AFTER_MEMBER)
        opened_in, items = self._stack.pop()
        if is_object:
            members = list(zip(items[::2], items[1::2], strict=True))
            self._add(dict(reversed(members)) if len(dict(members)) < len(members) else dict(members), opened_in)
        else:
            self._add(items, opened_in)

    def _add(self, value: Any, state: _State) -> None:
        """Add a complete value to the open container; `state` is the state in which the value began."""
        if state is _State.START:
            self._root, self._state = value, _State.DONE
            return
        self._stack[-1][1].append(value)
        self._state = _State.AFTER_MEMBER if state is _State.AFTER_COLON else _State.AFTER_ELEMENT

    def _word(self, word: bytes, value: bool | None) -> bool | None:
        self._expect(word)
        return value

    def _string(self) -> str:
        self._at += 1
        parts: list[bytes] = []
        while True:
            parts.append(self._skip(_PLAIN))
            byte = self._peek()
            if byte == b'"':
                self._at += 1
                return b"".join(parts).decode("utf-8", "surrogateescape")
            if byte == b"\\":
                # A lone low surrogate is encoded as three bytes.
                parts.append(self._escape().encode("utf-8", "surrogatepass"))
            elif not byte:
                self._fail("Missing a closing quotation mark in string.")
            else:
                self._fail("Invalid escape character in string.")

    def _escape(self) -> str:
        start = self._at
        letter = self._data[start + 1 : start + 2]
        if letter in _ESCAPES:
            self._at += 2
            return _ESCAPES[letter]
        if letter != b"u":
            self._fail("Invalid escape character in string.", start)
        self._at += 2
        code = self._hex4(start)
        if 0xD800 <= code <= 0xDBFF:
            if self._data[self._at : self._at + 2] != b"\\u":
                self._fail("The surrogate pair in string is invalid.", start)
            self._at += 2
            low = self._hex4(start)
            if not 0xDC00 <= low <= 0xDFFF:
                self._fail("The surrogate pair in string is invalid.", start)
            code = 0x10000 + ((code - 0xD800) << 10) + low - 0xDC00
        return chr(code)

    def _hex4(self, start: int) -> int:
        digits = _HEX4.match(self._data, self._at)
        if not digits:
            self._fail("Incorrect hex digit after \\u escape in string.", start)
        self._at = digits.end()
        return int(digits[0], 16)

    def _number(self) -> int | float:
        start = self._at
        negative = self._take(b"-")
        if not self._take(b"0") and not self._skip(_DIGITS):
            return -self._not_finite() if negative else self._not_finite()
        is_integer = True
        if self._take(b"."):
            is_integer = False
            if not self._skip(_DIGITS):
                self._fail("Miss fraction part in number.")
        if self._take(b"e") or self._take(b"E"):
            is_integer = False
            if not self._take(b"+"):
                self._take(b"-")
            if not self._skip(_DIGITS):
                self._fail("Miss exponent in number.")
        text = self._data[start : self._at].decode()
        number = float(text)
        if number in (float("inf"), float("-inf")):
            self._fail("Number too big to be stored in double.", start)
        return int(text) if is_integer else number

    def _not_finite(self) -> float:
        if self._take(b"N"):
            self._expect(b"aN")
            return float("nan")
        if self._take(b"I"):
            self._expect(b"nf")
            if self._peek() == b"i":
                self._expect(b"inity")
            return float("inf")
        self._fail(_INVALID_VALUE)

    def _expect(self, word: bytes) -> None:
        for letter in word:
            if not self._take(bytes((letter,))):
                self._fail(_INVALID_VALUE)

    def _take(self, byte: bytes) -> bool:
        found = self._peek() == byte
        self._at += found
        return found

    def _peek(self) -> bytes:
        """Return the next byte; empty at the end and at a NUL."""
        return self._data[self._at : self._at + 1].strip(b"\0")

    def _skip(self, pattern: re.Pattern[bytes]) -> bytes:
        found = pattern.match(self._data, self._at)
        if not found:
            return b""
        self._at = found.end()
        return found[0]

    def _fail(self, reason: str, offset: int | None = None) -> NoReturn:
        raise ParseError(reason, self._at if offset is None else offset)
