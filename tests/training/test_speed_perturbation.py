"""Speed perturbation."""

import numpy as np
import pytest

import kseq

RATE = 8000
TIMES = np.arange(4000) / RATE


@pytest.mark.parametrize("factor", [0.9, 1.1, 2.0])
def test_a_tone_gets_its_new_pitch_and_length(factor):
    tone = np.sin(2 * np.pi * 440 * TIMES)
    faster = kseq.training.perturb_speed(tone, factor)
    assert len(faster) == int(np.ceil(4000 / factor))
    assert faster.dtype == "float32"
    expected = np.sin(2 * np.pi * 440 * factor * np.arange(len(faster)) / RATE)
    inside = slice(100, -100)  # beyond its ends a signal is silent
    np.testing.assert_allclose(faster[inside], expected[inside], atol=2e-3)


def test_frequencies_above_half_the_rate_are_removed_and_channels_stay_apart():
    high = np.sin(2 * np.pi * 3000 * TIMES)
    both = np.stack([high, np.sin(2 * np.pi * 440 * TIMES)], axis=1)
    faster = kseq.training.perturb_speed(both, 1.6)
    assert faster.shape == (2500, 2)
    assert np.abs(faster[100:-100, 0]).max() < 0.02
    np.testing.assert_array_equal(faster[:, 1], kseq.training.perturb_speed(both[:, 1], 1.6))
    np.testing.assert_array_equal(kseq.training.perturb_speed(high, 1.0), high.astype("float32"))
    assert kseq.training.perturb_speed(np.zeros(0), 1.1).shape == (0,)


def test_wrong_signals():
    for signal, factor, message in [
        (np.zeros(3, "int16"), 1.1, "Divide 16-bit samples"),
        (np.zeros((1, 2, 3)), 1.1, "expected floats"),
        (np.array([0.0, np.nan]), 1.1, "not finite"),
        (np.zeros(3), 0.0, "above 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            kseq.training.perturb_speed(signal, factor)
