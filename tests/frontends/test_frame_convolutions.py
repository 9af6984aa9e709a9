"""Convolutions over frames, against explicit sums."""

import numpy as np
import pytest

import kseq

FEATURES = 6


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_convolutions_sum_the_frames_around(size):
    """The reference is an explicit sum."""
    layer = kseq.frontends.FrameConvolutions([3], kernel_size=size, strides=2, activation="linear")
    values = np.random.default_rng(2).normal(size=(1, 7, FEATURES)).astype("float32")
    outputs = np.asarray(layer(values, np.array([6])))[0]
    kernel, bias = (np.asarray(weight) for weight in layer.get_weights())
    assert outputs.shape == (4, 3)
    assert np.all(outputs[3] == 0)
    for frame in range(3):
        taps = [(k, 2 * frame + k - (size - 1) // 2) for k in range(size)]
        expected = bias + sum(values[0, place] @ kernel[k] for k, place in taps if 0 <= place < 6)
        np.testing.assert_allclose(outputs[frame], expected, atol=1e-5)


def test_convolutions_over_pictures_tell_heights_apart():
    layer = kseq.frontends.FrameConvolutions((2, 3), strides=(2, 1), height_strides=(1, 2))
    layer.build((None, None, FEATURES))
    values = np.zeros((1, 6, FEATURES), "float32")
    values[0, 2, 0] = 1.0
    outputs = np.asarray(layer(values, np.array([6])))
    assert outputs.shape == layer.compute_output_shape(values.shape) == (1, 3, 3 * 3)
    flipped = np.asarray(layer(values[:, :, ::-1], np.array([6])))
    assert np.abs(outputs - flipped).max() > 1e-3


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"filters=\[\]"):
        kseq.frontends.FrameConvolutions([])
    with pytest.raises(ValueError, match=r"strides=\[2\] for 2 convolutions"):
        kseq.frontends.FrameConvolutions([3, 4], strides=[2])
