import math
import random
import struct
from decimal import Decimal

import pytest

from kseq_serving.rest.grisu import digits


def shortest(value: float) -> tuple[str, int]:
    """Return Python's digits of a number: the fewest possible, and the nearest of these."""
    parts = Decimal(repr(value)).normalize().as_tuple()
    return "".join(map(str, parts.digits)), int(parts.exponent)


def doubles(count: int) -> list[float]:
    """Numbers of any size, including denormals."""
    chance = random.Random(1)
    drawn = [abs(struct.unpack("d", chance.randbytes(8))[0]) for _ in range(count)]
    return [value for value in drawn if math.isfinite(value) and value] + [5e-324, 2.2e-308, 1.7976931348623157e308]


def test_they_say_the_number_and_no_other():
    for value in doubles(20_000):
        text, exponent = digits(value)
        assert float(f"{text}e{exponent}") == value
        assert len(text) <= 17
        assert text[0] != "0"


@pytest.mark.parametrize("value", [1.0, 0.1, 2.5, 100.0, 1e22, 1e-7, 123456.789, 3.0e20, float(2**53), 1 / 8])
def test_short_ones_are_the_shortest(value: float):
    assert digits(value) == shortest(value)


def test_the_last_digit_is_not_always_the_nearest():
    """The expected digits are those of a recorded response of TensorFlow Serving."""
    assert digits(2.0**64) == ("18446744073709553", 3)
    assert shortest(2.0**64) == ("18446744073709552", 3)
