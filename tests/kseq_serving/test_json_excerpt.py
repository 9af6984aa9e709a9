import pytest

from kseq_serving.rest.json_excerpt import excerpt


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "{}"),
        ([1, 2.5, None, True, "a"], '[1, 2.5, null, true, "a"]'),
        ({"a": [1, {"b": None}], "c": "d"}, '{\n    "a": [1, {\n            "b": null\n        }],\n    "c": "d"\n}'),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e21, "1e21"),
        (1.5e300, "1.5e300"),
        (1e20, "100000000000000000000.0"),
        (0.001234, "0.001234"),
        (1.234e-7, "1.234e-7"),
        (float("nan"), ""),
        ([1, float("inf")], "[1, "),
    ],
)
def test_values(value: object, text: str):
    assert excerpt(value) == text


def test_long_values_are_cut_off():
    text = excerpt({"foo": list(range(1000))})
    assert text.endswith(", 62, 63")
    assert 256 <= len(text) < 262
