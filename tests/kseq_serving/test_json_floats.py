"""Tests of many numbers that are formatted at once."""

import threading

import numpy as np
import pytest

from kseq_serving.rest import json_response, json_writer

RANDOM = np.random.default_rng(0)


def near_powers_of_ten() -> np.ndarray:
    """Return the eight nearest numbers above and below each power of ten, and these."""
    numbers = [np.array([10.0**power for power in range(-38, 39)], np.float32)]
    above = below = numbers[0]
    for _ in range(8):
        above, below = np.nextafter(above, np.float32(np.inf)), np.nextafter(below, np.float32(0))
        numbers += [above, below]
    return np.concatenate(numbers)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(RANDOM.random(2000), id="shares"),
        pytest.param(-np.exp(RANDOM.uniform(-40, 30, 3000)), id="of every size"),
        pytest.param(
            [float(f"{value:.{digits}g}") for digits in range(1, 8) for value in np.exp(RANDOM.uniform(-32, 24, 300))],
            id="of few digits",
        ),
        pytest.param(near_powers_of_ten(), id="near powers of ten"),
        pytest.param(np.arange(-1000, 1000) / 8, id="eighths"),
        pytest.param(RANDOM.integers(0, 2**30, 500), id="whole"),
        # Products with a power of ten, which double precision rounds to halfway between two texts.
        pytest.param([1.241188955e-13, 9.171420845e-10, 2.389027145e-07, 4.500175055e-05], id="halfway"),
        pytest.param([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, 1e-38, 3.4e38, 999999.94, 1e6], id="odd"),
    ],
)
def test_every_number_is_written_as_if_it_were_alone(values: np.ndarray):
    numbers = np.array(values, np.float32)
    alone = [json_writer.format_floats(number[None])[0] for number in numbers]
    repeats = 1 + 1000 // len(numbers)  # enough of them to be formatted at once
    assert json_writer.format_floats(np.tile(numbers, repeats)) == alone * repeats


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_thread_at_a_time_formats_many_numbers_and_few_numbers_do_not_wait(dtype: type):
    written = threading.Event()

    def write_many() -> None:
        json_response.write({"x": np.zeros(1000, dtype)}, rows=True)
        written.set()

    writer = threading.Thread(target=write_many)
    with json_writer.FORMATTING:
        writer.start()
        few = threading.Thread(target=json_response.write, args=({"x": np.zeros(100, dtype)},), kwargs={"rows": True})
        few.start()
        few.join(10)
        assert not few.is_alive()
        assert not written.wait(0.1)
    writer.join(10)
    assert written.is_set()
