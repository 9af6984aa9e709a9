"""JSON bodies whose reading must not cost more than their size."""

import pytest

from kseq_serving.errors import InvalidArgumentError
from kseq_serving.rest import json_reader, strict_json
from tests.kseq_serving.hostile.counting import lines_run

BROKEN = {
    "numbers that are cut off": lambda n: b'{"instances": [' + b"1.25," * n,
    "texts that are cut off": lambda n: b'{"instances": [' + b'"abc",' * n,
    "rows that are cut off": lambda n: b'{"instances": [' + b"[1,[2]]," * n,
    "members that are cut off": lambda n: b"{" + b'"a": {"b": [1]},' * n,
    "one long text": lambda n: b'{"a": "' + b"x" * 10 * n,
    "escapes": lambda n: b'["' + b"\\n" * 5 * n,
    "surrogate pairs": lambda n: b'["' + b"\\ud83d\\ude00" * n,
    "one long number": lambda n: b"[" + b"1" * 10 * n + b"]",
    "white space": lambda n: b"[" + b" " * 10 * n,
}


@pytest.mark.parametrize("make", BROKEN.values(), ids=BROKEN)
def test_errors_are_found_in_few_steps(make):
    """A step for each byte would be 7,500 of them at least."""
    size = 1500
    with pytest.raises(InvalidArgumentError):
        json_reader.parse(make(size))
    assert lines_run(lambda: json_reader.parse(make(size))) < 4 * size


NESTED = {
    "cut off": b"",
    "with half a surrogate pair": b'"\\ud800"]',
    "with a number that is too big": b"1e999]",
    "with a short form": b"Inf,",
    "with a control character": b'"\n"',
    "nested too deep": b"[" * 600,
    "nested far too deep": b"[" * 2000,
}


@pytest.mark.parametrize("end", NESTED.values(), ids=NESTED)
def test_an_error_behind_many_rows_is_found_in_few_steps(end: bytes):
    def parse(count: int) -> None:
        with pytest.raises(InvalidArgumentError):
            json_reader.parse(b'{"instances": [' + b'[[[[[["a, \\"]"]]]]]],' * count + end)

    # Three for each string that is rewritten.
    assert lines_run(lambda: parse(5000)) < 4 * 5000


@pytest.mark.parametrize("element", [b"[[[[[[1]]]]]],", b"[0,[0,[0,[0,[0,[1]]]]]],", b"1e305,", b'{"a":'])
def test_the_worst_documents_take_steps_in_proportion_to_their_size(element: bytes):
    one, two = (lines_run(lambda n=n: strict_json.check(b"[" + element * n)) for n in (50, 100))
    assert two < 2.2 * one


@pytest.mark.parametrize(
    ("text", "most"),
    [("page1234", 500), ("Inf", 500), ("-NaN", 500), ("e999", 500), ("1e234", 5000), ("1" * 400, 5000)],
)
def test_a_text_that_looks_like_a_number_does_not_slow_the_numbers_beside_it(text: str, most: int):
    """Beside a text that may be a number beyond a double's range, each number takes a few lines; else none does."""
    numbers = ",".join(["1.25"] * 1000)
    body = f'{{"comment": "{text}", "instances": [{numbers}]}}'.encode()
    assert json_reader.parse(body)["comment"] == text
    assert lines_run(lambda: json_reader.parse(body)) < most
