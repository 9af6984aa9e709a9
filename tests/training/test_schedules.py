"""Schedules of the learning rate."""

import keras
import numpy as np
import pytest

from kseq.training import InverseSquareRoot, NoamSchedule


@pytest.mark.every_backend
def test_noam_is_the_formula_of_the_paper():
    schedule = NoamSchedule(512, 40, factor=2.0)
    steps = np.arange(1, 200)
    expected = 2.0 * 512**-0.5 * np.minimum(steps**-0.5, steps * 40**-1.5)
    np.testing.assert_allclose([float(schedule(step - 1)) for step in steps], expected, rtol=1e-5)


def test_inverse_square_root_has_its_peak_after_the_warm_up():
    rates = [float(InverseSquareRoot(0.5, 10)(step)) for step in range(40)]
    assert np.argmax(rates) == 9
    np.testing.assert_allclose([rates[0], rates[9], rates[39]], [0.05, 0.5, 0.25], rtol=1e-6)


@pytest.mark.parametrize("schedule", [InverseSquareRoot(0.5, 10), NoamSchedule(16, 7, factor=0.3)])
def test_schedules_are_saved_with_optimizers(schedule):
    optimizer = keras.optimizers.Adam(schedule)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert float(again._learning_rate(30)) == float(schedule(30))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InverseSquareRoot(0.0, 10), "peak=0"),
        (lambda: InverseSquareRoot(0.1, 0), "warmup_steps=0"),
        (lambda: NoamSchedule(0), "model_dim=0"),
        (lambda: NoamSchedule(8, factor=-1.0), "factor=-1"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
