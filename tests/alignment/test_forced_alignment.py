"""Forced alignment: frames, times and confidences of labels."""

import numpy as np
import pytest

import kseq
from kseq.alignment import alignment_spans, ctc_forced_align
from tests.support import compiled

# A word over the classes blank, a, b; the most probable classes of its frames are -, a, a, -, a, b, b.
SAYS = [0, 1, 1, 0, 1, 2, 2]
WORD = np.array([[1, 1, 2]])


def says(classes, most=0.8):
    probabilities = np.full((1, len(classes), 3), (1 - most) / 2)
    probabilities[0, np.arange(len(classes)), classes] = most
    return np.log(probabilities).astype("float32")


@pytest.mark.long
@pytest.mark.parametrize(
    "wrap", [lambda f: f, pytest.param(compiled, marks=pytest.mark.every_backend)], ids=["eager", "compiled"]
)
def test_a_word(wrap):
    alignment = wrap(ctc_forced_align)(WORD, says(SAYS), np.array([3]), np.array([7]))
    assert np.asarray(alignment.states).tolist() == [SAYS]
    assert np.asarray(alignment.starts).tolist() == [[1, 4, 5]]
    assert np.asarray(alignment.ends).tolist() == [[3, 5, 7]]
    np.testing.assert_allclose(alignment.scores, [7 * np.log(0.8)], rtol=1e-5)
    np.testing.assert_allclose(alignment.confidences, [[0.8] * 3], rtol=1e-5)


def test_the_confidence_is_the_mean_over_the_label_s_frames():
    logits = says(SAYS)
    logits[0, 2] = np.log([0.5, 0.4, 0.1])
    logits[0, 3] = np.log([0.9, 0.05, 0.05])
    alignment = ctc_forced_align(WORD, logits, np.array([3]), np.array([7]))
    assert np.asarray(alignment.starts).tolist() == [[1, 4, 5]]
    assert np.asarray(alignment.ends).tolist() == [[2, 5, 7]]
    logits[0, 2] = np.log([0.35, 0.55, 0.1])
    alignment = ctc_forced_align(WORD, logits, np.array([3]), np.array([7]))
    np.testing.assert_allclose(alignment.confidences[0, 0], (0.8 + 0.55) / 2, rtol=1e-5)


def test_another_blank_and_rows_of_other_lengths():
    """The second row is a prefix of the first; the third has no alignment."""
    logits = np.repeat(np.roll(says(SAYS), -1, axis=-1), 3, axis=0)  # classes a, b, blank
    logits[1, 3:] = np.nan
    labels = np.array([[0, 0, 1], [0, -7, 99], [0, 0, 1]])
    alignment = ctc_forced_align(labels, logits, np.array([3, 1, 3]), np.array([7, 3, 3]), blank_index=-1)
    assert np.asarray(alignment.states).tolist() == [[2, 0, 0, 2, 0, 1, 1], [2, 0, 0, *[-1] * 4], [-1] * 7]
    assert np.asarray(alignment.starts).tolist() == [[1, 4, 5], [1, -1, -1], [-1] * 3]
    assert np.asarray(alignment.ends).tolist() == [[3, 5, 7], [3, -1, -1], [-1] * 3]
    np.testing.assert_allclose(alignment.scores, [7 * np.log(0.8), 3 * np.log(0.8), -np.inf], rtol=1e-5)
    np.testing.assert_allclose(alignment.confidences, [[0.8] * 3, [0.8, 0, 0], [0] * 3], rtol=1e-5)


def test_spans_in_seconds():
    alignment = kseq.ctc_forced_align(WORD, says([0, 1, 1, 0, 1, 0, 2]), np.array([2]), np.array([5]))
    starts, ends = alignment_spans(alignment, frame_rate=50.0)
    np.testing.assert_allclose(starts, [[0.02, 0.08, np.nan]])
    np.testing.assert_allclose(ends, [[0.06, 0.1, np.nan]])
    with pytest.raises(ValueError, match=r"frame_rate=0, but expected"):
        alignment_spans(alignment, frame_rate=0)


@pytest.mark.long
def test_no_labels_or_no_frames():
    alignment = ctc_forced_align(np.zeros((2, 0), int), says(SAYS).repeat(2, 0), np.zeros(2, int), np.array([7, 0]))
    assert np.asarray(alignment.states).tolist() == [[0] * 7, [-1] * 7]
    assert alignment.starts.shape == (2, 0)
    assert float(alignment.scores[1]) == 0.0
    alignment = ctc_forced_align(WORD, says(SAYS)[:, :0], np.array([3]), np.array([0]))
    assert alignment.states.shape == (1, 0)
    assert np.asarray(alignment.starts).tolist() == [[-1] * 3]
