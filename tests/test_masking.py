"""Masks and lengths."""

import numpy as np
import pytest
from keras import ops

from kseq import masking
from tests.support import gradient


@pytest.mark.every_backend
def test_lengths_and_masks_are_inverse():
    lengths = np.array([3, 0, 1])
    mask = masking.mask_from_lengths(lengths, 3)
    np.testing.assert_array_equal(mask, [[True, True, True], [False, False, False], [True, False, False]])
    np.testing.assert_array_equal(masking.lengths_from_mask(mask), lengths)


@pytest.mark.every_backend
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 2), (2, 3, 2, 2)])
def test_zero_padding_keeps_nan_out_of_values_and_gradients(shape):
    values = np.ones(shape, "float32")
    values[0, 2:] = np.nan
    mask = masking.mask_from_lengths(np.array([2, 3]), 3)
    zeroed = np.asarray(masking.zero_padding(values, mask))
    assert np.all(zeroed[0, 2:] == 0)
    assert np.all(zeroed[1] == 1)
    (d_values,) = gradient(lambda v: ops.sum(ops.square(masking.zero_padding(v, mask))), values)
    assert np.all(d_values[0, 2:] == 0)
    assert np.all(d_values[1] == 2)


def test_the_last_real_steps_values_are_held():
    """Time-first values: one row with gaps, one padded at the end, one padded at the start."""
    values = np.arange(15, dtype="float32").reshape(5, 3)
    mask = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1], [1, 0, 0]], bool)
    held = np.asarray(masking.hold_last(values, mask))
    np.testing.assert_array_equal(held[:, 0], [0, 0, 6, 6, 12])
    np.testing.assert_array_equal(held[:, 1], [1, 4, 4, 4, 4])
    np.testing.assert_array_equal(held[2:, 2], [8, 11, 11])
    np.testing.assert_array_equal(masking.last_real(values, mask), [12, 4, 11])
    wide = np.stack([values, -values], axis=-1)
    np.testing.assert_array_equal(np.asarray(masking.hold_last(wide, mask))[..., 1], -held)
    np.testing.assert_array_equal(masking.hold_last(values, None), values)
    np.testing.assert_array_equal(masking.last_real(values, None), values[-1])
    (d_values,) = gradient(lambda v: ops.sum(masking.hold_last(v, mask)[:, :2]), values)
    np.testing.assert_array_equal(d_values[:, :2], [[2, 1], [0, 4], [2, 0], [0, 0], [1, 0]])


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (2, 3, 1), (2,)])
def test_a_mask_of_the_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"mask has shape .* expected mask of shape \(batch, time\) = \(2, 3\)"):
        masking.check_mask(np.ones(shape, bool), np.zeros((2, 3, 5)))


def test_an_integer_mask_becomes_boolean():
    mask = masking.check_mask(np.array([[1, 0]]), np.zeros((1, 2, 5)))
    np.testing.assert_array_equal(mask, [[True, False]])
