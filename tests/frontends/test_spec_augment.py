"""SpecAugment."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.backend import compiled

LENGTHS = np.array([30, 12, 1, 0], "int32")


def drawn(batch=4, time=30, bands=8):
    return np.random.default_rng(0).normal(size=(batch, time, bands)).astype("float32") + 5.0


def runs(changed):
    """Return the lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], changed.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


@pytest.mark.long
@pytest.mark.long_on_jax
def test_masks_bands_and_times_within_their_widths_and_lengths():
    layer = kseq.frontends.SpecAugment(
        frequency_masks=1, frequency_width=3, time_masks=2, time_width=9, time_share=0.5, fill=-1.0, seed=1
    )
    values, widths, times = drawn(), set(), set()
    for _ in range(25):
        masked = ops.convert_to_numpy(layer(values, LENGTHS, training=True))
        for row, length in enumerate(LENGTHS):
            assert not masked[row, length:].any()
            changed = masked[row, :length] == -1.0
            np.testing.assert_array_equal(masked[row, :length][~changed], values[row, :length][~changed])
            of_time, of_band = changed.all(axis=1), changed.all(axis=0)
            np.testing.assert_array_equal(changed, of_time[:, None] | of_band)  # whole bands and whole frames
            if length == 30:
                widths.update(runs(of_band) if not of_time.all() else [])
                times.update(runs(of_time) if not of_band.all() else [])
            if length == 12:
                assert not of_time.all()
                assert max(runs(of_time), default=0) <= 12  # two masks of at most 6
            if length == 1:
                assert not of_time.any()
    assert widths == {1, 2, 3}
    assert max(times) > 5


@pytest.mark.long
@pytest.mark.long_on_jax
def test_compiled_in_training_only_and_whatever_the_padding_holds():
    layer = kseq.frontends.SpecAugment(frequency_width=3, time_width=5, time_warp=4, seed=3)
    values = drawn()
    real = np.arange(30) < LENGTHS[:, None]
    np.testing.assert_array_equal(layer(values, LENGTHS), np.where(real[..., None], values, 0.0))
    np.testing.assert_array_equal(layer(values, LENGTHS, training=False), layer(values, LENGTHS))
    state = ops.convert_to_numpy(layer.seeds.state)

    def call(values):
        with keras.StatelessScope(state_mapping=[(layer.seeds.state, ops.convert_to_tensor(state))]):
            return layer(values, ops.convert_to_tensor(LENGTHS), training=True)

    expected = ops.convert_to_numpy(layer(values, LENGTHS, training=True))
    padded = np.where(real[..., None], values, np.nan)
    np.testing.assert_allclose(compiled(call)(ops.convert_to_tensor(padded)), expected, rtol=1e-5)
    assert np.isfinite(expected).all()
    again = kseq.frontends.SpecAugment.from_config(layer.get_config())
    np.testing.assert_array_equal(again(values, LENGTHS, training=True), expected)


def test_the_mean_of_the_row_is_under_the_masks():
    layer = kseq.frontends.SpecAugment(frequency_masks=0, time_masks=30, time_width=3, seed=1)
    values = drawn()
    masked = ops.convert_to_numpy(layer(values, LENGTHS, training=True))
    places = np.argwhere(masked[1] != values[1])
    np.testing.assert_allclose(masked[1, places[0][0]], values[1, :12].mean(), rtol=1e-5)


def test_warps_time_and_keeps_both_ends():
    layer = kseq.frontends.SpecAugment(frequency_masks=0, time_masks=0, time_warp=5, seed=2)
    ramp = np.broadcast_to(np.arange(30.0)[None, :, None], (64, 30, 1)).astype("float32")
    lengths = np.array([30, 20, 11, 10] * 16, "int32")
    warped = ops.convert_to_numpy(layer(ramp, lengths, training=True))[..., 0]
    moved = []
    for row, length in zip(warped, lengths, strict=True):
        real = row[:length]
        np.testing.assert_allclose(real[[0, -1]], [0, length - 1], atol=1e-5)
        assert (np.diff(real) >= -1e-5).all()
        moved.append(np.abs(real - np.arange(length)).max())
        assert moved[-1] <= 5 + 1e-4
    assert max(moved) > 4
    assert max(of for of, length in zip(moved, lengths, strict=True) if length == 10) == 0  # too short
    assert len({round(float(each), 3) for each in moved}) > 5


def test_in_a_recognizer_it_masks_in_fit_alone():
    front_end = [kseq.frontends.SpecAugment(frequency_width=2, time_width=2), kseq.frontends.FrameStacking(2)]
    model = kseq.models.CTCRecognizer(8, 4, keras.layers.Dense(5), front_end=front_end)
    inputs = {"features": drawn(), "lengths": LENGTHS}
    np.testing.assert_array_equal(model(inputs, training=False), model(inputs, training=False))
    assert np.abs(ops.convert_to_numpy(model(inputs, training=True)) - model(inputs, training=False)).max() > 1e-3
    assert model.frames(7) == 4


def test_wrong_options():
    for options, message in [
        ({"time_masks": -1}, "time_masks=-1"),
        ({"time_share": 1.5}, "a share is from 0 to 1"),
        ({"frequency_width": 2.5}, "whole number"),
        ({"fill": float("nan")}, "finite"),
    ]:
        with pytest.raises(ValueError, match=message):
            kseq.frontends.SpecAugment(**options)
