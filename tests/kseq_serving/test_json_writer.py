import numpy as np
import pytest

from kseq_serving.rest import json_writer


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.5, "2.5"),
        (0.1, "0.1"),
        (300.0, "300.0"),
        (-0.0, "-0.0"),
        (1 / 3, "0.333333343"),
        (100000.0, "100000.0"),
        (1e6, "1e+06"),
        (1234567.0, "1234567.0"),
        (16777217.0, "16777216.0"),
        (2147483648.0, "2.14748365e+09"),
        (3.4028235e38, "3.40282347e+38"),
        (1.17549435e-38, "1.17549435e-38"),
        (1e-45, "0.0"),
        (1e-5, "1e-05"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_single_precision(value: float, text: str):
    assert json_writer.format_floats(np.array([value], np.float32)) == [text]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (0.30000000000000004, "0.30000000000000004"),
        (123456789.123, "123456789.123"),
        (9007199254740993.0, "9007199254740992.0"),
        (12345678901.0, "12345678901.0"),
        (0.3333333333333333, "0.33333333333333331"),
        (1e15, "1e+15"),
        (1e22, "1e+22"),
        (5e-324, "0.0"),
    ],
)
def test_double_precision(value: float, text: str):
    assert json_writer.format_floats(np.array([value])) == [text]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_number_reads_back_as_it_was(dtype: type):
    random = np.random.default_rng(0)
    values = (random.standard_normal(5000) * 10.0 ** random.integers(-30, 30, 5000)).astype(dtype)
    short = np.array([float(f"{value:.3g}") for value in values[:500].tolist()], dtype)
    for sample in (values, short, np.round(values)):
        texts = json_writer.format_floats(sample)
        assert np.array(list(map(float, texts)), dtype).tolist() == sample.tolist()
    assert max(map(len, json_writer.format_floats(short))) <= len("-1.23e-30")


def test_strings_escape_only_what_must_be():
    assert json_writer.quote('a"\\/\b\f\n\r\t\x01\x1f\x7fé') == '"a\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001F\x7fé"'


def test_error_body():
    assert json_writer.error_body('no "x"') == b'{\n    "error": "no \\"x\\""\n}'


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_few_numbers_are_written_as_many(dtype: type):
    random = np.random.default_rng(0)
    numbers = np.concatenate(
        [
            random.normal(size=300),
            10.0 ** random.uniform(-44, 38, 300),
            np.round(random.normal(size=100) * 1000),
            [0.0, -0.0, np.nan, np.inf, -np.inf, 1e6, 999999.0, 1e-45, 1234567.0, 16777216.0, 1e16],
        ]
    ).astype(dtype)
    one_by_one = [json_writer.format_floats(numbers[index : index + 1])[0] for index in range(len(numbers))]
    assert json_writer.format_floats(numbers) == one_by_one
