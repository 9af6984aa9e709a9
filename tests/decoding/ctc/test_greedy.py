"""Greedy decoding of CTC against its twin."""

import itertools

import numpy as np
import pytest

from kseq.decoding import ctc_greedy_decode
from tests.decoding.ctc.models import LENGTHS, assert_same, assert_strings, numpy, random_logits, strings, ways
from tests.reference import ctc_decoding as reference
from tests.support import compiled


@pytest.mark.long_on_jax
@pytest.mark.parametrize("blank_index", [0, 2])
def test_equals_the_slow_one_in_every_way(blank_index):
    logits = random_logits(seed=1, shape=(5, 6, 3))
    answers = ways(lambda x, n: ctc_greedy_decode(x, n, blank_index=blank_index), logits, LENGTHS)
    for _, decoded in answers:
        assert decoded.tokens.shape == (5, 1, 6)
        for row in range(5):
            expected = reference.greedy(reference.log_softmax(logits[row, : LENGTHS[row]]), blank_index)
            assert_strings(strings(decoded, row, frames=True), [expected])


def test_spells():
    decoded = numpy(ctc_greedy_decode(9 * np.eye(4, dtype="float32")[[[0, 1, 1, 0, 1, 2, 3, 3]]], np.array([8])))
    ((score, string, frames),) = strings(decoded, 0, frames=True)
    assert string == (1, 1, 2, 3)
    assert frames == (1, 4, 5, 6)
    assert score == pytest.approx(0.0, abs=0.01)


def test_without_a_blank_runs_are_merged_and_frames_are_their_ends():
    path = [[0, 0, 1, 1, 1, 0, 2, 2], [3, 3, 3, 1, 1, 1, 1, 1]]
    lengths = np.array([8, 5])
    answers = ways(
        lambda x, n: ctc_greedy_decode(x, n, blank_index=None), 9 * np.eye(4, dtype="float32")[path], lengths
    )
    for _, decoded in answers:
        for row, length in enumerate(lengths):
            runs = [(symbol, len(list(run))) for symbol, run in itertools.groupby(path[row][:length])]
            ((_, string, frames),) = strings(decoded, row, frames=True)
            assert string == tuple(symbol for symbol, _ in runs)
            assert frames == tuple(np.cumsum([count for _, count in runs]) - 1)


def test_padding_and_bad_rows_change_no_other():
    logits = random_logits(seed=2)
    expected = numpy(ctc_greedy_decode(logits, LENGTHS))
    spoilt = np.where(np.arange(6)[:, None] < LENGTHS[:, None, None], logits, np.nan)
    assert_same(numpy(ctc_greedy_decode(spoilt, LENGTHS)), expected, atol=0)
    spoilt[0, 2, 1] = np.nan
    got = numpy(compiled(ctc_greedy_decode)(spoilt, LENGTHS))
    assert np.isnan(got.scores[0, 0])
    assert (got.lengths[0], got.tokens[0].max(), got.frames[0].max()) == (0, -1, -1)
    assert_same(type(got)(*(x[1:] for x in got)), type(got)(*(x[1:] for x in expected)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"blank_index": 4}, "blank_index=4 is outside the 4 classes"),
        ({"logit_lengths": np.array([6, 4, 7, 1, 5])}, r"logit_lengths\[2\]=7 does not fit logits of 6 frames"),
        ({"logits": np.full((5, 6, 4), np.nan, "float32")}, "Row 0 has logits in frame 0"),
    ],
)
def test_says_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        ctc_greedy_decode(**{"logits": random_logits(), "logit_lengths": LENGTHS, **arguments})
