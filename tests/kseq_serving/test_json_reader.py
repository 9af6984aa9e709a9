import json
import math

import pytest

from kseq_serving.errors import InvalidArgumentError
from kseq_serving.rest import json_reader, json_structure, strict_json

DOCUMENTS = [
    b'{"a": [1, -2.5, 3e2, -0.0, 1E-3], "b": {"c": null, "d": true, "e": false}, "f": ""}',
    b"  [1.0] trailing text is no part of it",
    b'"\\u00e9\\ud83d\\ude00 \\" \\\\ \\/ \\b\\f\\n\\r\\t"',
    '["é", "日本", "😀"]'.encode(),
    b"[[], {}, [[]], [{}]]",
    b"12345678901234567890123",
    b'"\xff\xfe"',
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_strict_check_accepts_what_the_scanner_reads(document: bytes):
    strict_json.check(document)
    assert (
        json_reader.parse(document)
        == json.JSONDecoder().raw_decode(document.decode("utf-8", "surrogateescape").lstrip())[0]
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[NaN]", "[nan]"),
        ("[Infinity, -Infinity]", "[inf, -inf]"),
        ("[Inf, -Inf]", "[inf, -inf]"),
        ('{"a": 1, "a": 2}', "{'a': 1}"),
        ("\ufeff[1]", "[1]"),
        ("[1e308]", "[1e+308]"),
        ('[Inf, "Inf", -NaN, "-NaN"]', "[inf, 'Inf', nan, '-NaN']"),
        ('["1e999", 1]', "['1e999', 1]"),
        ('[1] "\\ud800"', "[1]"),
        ('["\\\\ud83d\\ude00"]', repr(["\\ud83d" + b"\xed\xb8\x80".decode("utf-8", "surrogateescape")])),
        ('["\\udc80"]', repr([b"\xed\xb2\x80".decode("utf-8", "surrogateescape")])),
    ],
)
def test_the_dialect(text: str, value: str):
    assert repr(json_reader.parse(text.encode())) == value


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "The document is empty"),
        (b"  ", "The document is empty. at offset: 2"),
        (b"abc", "Invalid value. at offset: 0"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b'{"a": [1.0],}', "Missing a name for object member. at offset: 12"),
        (b'{"a" [1]}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a": }', "Invalid value. at offset: 6"),
        (b'{"a": 1 "b": 2}', "Missing a comma or '}' after an object member. at offset: 8"),
        (b"[1.0,]", "Invalid value. at offset: 5"),
        (b"[1 2]", "Missing a comma or ']' after an array element. at offset: 3"),
        (b"[1", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"[nan]", "Invalid value. at offset: 2"),
        (b"[True]", "Invalid value. at offset: 1"),
        (b"[+1]", "Invalid value. at offset: 1"),
        (b"[-]", "Invalid value. at offset: 2"),
        (b"[5.]", "Miss fraction part in number. at offset: 3"),
        (b"[5e]", "Miss exponent in number. at offset: 3"),
        (b"[1e309]", "Number too big to be stored in double. at offset: 1"),
        (b"[" + b"1" * 300 + b"e99]", "Number too big to be stored in double. at offset: 1"),
        (b"[" + b"1" * 400 + b"]", "Number too big to be stored in double. at offset: 1"),
        (b"[01]", "Missing a comma or ']' after an array element. at offset: 2"),
        (b'["a', "Missing a closing quotation mark in string. at offset: 3"),
        (b'["a\nb"]', "Invalid escape character in string. at offset: 3"),
        (b'["\\x41"]', "Invalid escape character in string. at offset: 2"),
        (b'["\\u00g0"]', "Incorrect hex digit after \\u escape in string. at offset: 2"),
        (b'["\\ud800"]', "The surrogate pair in string is invalid. at offset: 2"),
        (b"1e", "Miss exponent in number. at offset: 2"),
        (b"[1,2,1e309,3,}", "Number too big to be stored in double. at offset: 5"),
        (b"[1,2,-1e309,3,}", "Number too big to be stored in double. at offset: 5"),
        (b'[1,[[[2]],{"a":[]}],[3,],4]', "Invalid value. at offset: 23"),
        (b"[1.0\0]", "Missing a comma or ']' after an array element. at offset: 4"),
    ],
)
def test_errors_name_the_byte(body: bytes, error: str):
    with pytest.raises(InvalidArgumentError) as caught:
        json_reader.parse(body)
    assert caught.value.message == f"JSON Parse error: {error}"


WHOLE = '\ufeff{"a, \\\\": [[1, {"b]": -2.5e3}], Inf], "\\"": {"é\\ud83d\\ude00": [[], {}]}, "c": null}'.encode()
PIECES = (b"", b"]", b"}", b"[", b"{", b",", b":", b'"', b"\\", b"\0", b"\xff", b"Inf", b"\\ud800", b"1e999")


def error_of_reader(body: bytes) -> str:
    try:
        json_reader.parse(body)
    except InvalidArgumentError as error:
        return error.message.removeprefix("JSON Parse error: ")
    return ""


def error_of_check(body: bytes) -> str:
    try:
        strict_json.check(body)
    except strict_json.ParseError as error:
        return f"{error.reason} at offset: {error.offset}"
    return ""


@pytest.mark.parametrize("piece", PIECES)
def test_errors_are_those_of_a_check_from_the_start(monkeypatch: pytest.MonkeyPatch, piece: bytes):
    """The reader lets the check begin where Python's scanner has failed."""
    monkeypatch.setattr(json_structure, "_PIECE", 16)
    places = range(1, len(WHOLE))
    bodies = [WHOLE[:place] + middle for place in places for middle in (piece, piece + WHOLE[place:], piece * 600)]
    errors = [(body, error) for body in bodies if (error := error_of_reader(body))]
    assert errors == [(body, error_of_check(body)) for body, _ in errors]
    assert len(errors) > len(WHOLE)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_no_nesting_can_exhaust_the_stack(opening: bytes):
    with pytest.raises(InvalidArgumentError, match="Nested deeper than"):
        json_reader.parse(opening * 200_000)


def test_numbers_keep_their_kind():
    integer, real, huge = json_reader.parse(b"[1, 1.0, 18446744073709551616]")
    assert (type(integer), type(real), type(huge)) == (int, float, int)
    assert math.copysign(1, json_reader.parse(b"[-0.0]")[0]) == -1
