"""Stacks of frames."""

import numpy as np
import pytest

import kseq


def test_stacks_hold_the_frames_in_order_and_zeros_after_the_last():
    values = np.arange(1.0, 11.0, dtype="float32").reshape(1, 5, 2)
    stacked = kseq.frontends.FrameStacking(2)(values, np.array([3]))
    np.testing.assert_array_equal(stacked, [[[1, 2, 3, 4], [5, 6, 0, 0], [0, 0, 0, 0]]])


def test_a_count_below_1_is_refused():
    with pytest.raises(ValueError, match="count=0"):
        kseq.frontends.FrameStacking(0)
