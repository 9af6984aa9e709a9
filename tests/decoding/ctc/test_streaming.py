"""Frames in chunks: the final answer is that of all frames at once, and stable symbols do not change."""

import keras
import numpy as np
import pytest

from kseq.decoding import CTCBeamSearch, CTCStreaming, HotWords, Lexicon
from tests.decoding.ctc.models import assert_same, assert_strings, numpy, quick, random_logits, strings
from tests.support import BACKEND, compiled

PLAIN = CTCStreaming(search=CTCBeamSearch(beam_width=4, top_paths=3), max_length=12)
compiled_advance = compiled(PLAIN.advance)
LENGTHS = np.array([12, 9, 0, 1, 12], "int32")
LOGITS = random_logits(seed=1, shape=(5, 12, 4), sharpness=2.5)


def chunks(sizes, lengths=LENGTHS, logits=LOGITS):
    """The frames by chunks, with each row's number of frames in each."""
    start = 0
    for size in sizes:
        yield logits[:, start : start + size], np.clip(lengths - start, 0, size).astype("int32")
        start += size


def unequal_chunks(seed=0):
    """Chunks of 4 frames of which every row fills as many as it likes, until all are through."""
    random, done = np.random.default_rng(seed), np.zeros(5, int)
    while (done < LENGTHS).any():
        count = np.minimum(random.integers(0, 5, 5), LENGTHS - done)
        chunk = np.full((5, 4, 4), np.nan, "float32")
        for row in range(5):
            chunk[row, : count[row]] = LOGITS[row, done[row] : done[row] + count[row]]
        done += count
        yield chunk, count.astype("int32")


def starts_with(string, beginning):
    return string[: len(beginning)] == beginning


def run(streaming, ways, parts):
    """The answer, after checking that what was stable at any time begins every string of it."""
    advance, look, finish = ways
    state, stable = streaming.start(5, 4), []
    for logits, lengths in parts:
        state = advance(state, logits, lengths)
        tokens, length, frames = (np.asarray(x) for x in look(state))
        stable.append([tuple(tokens[row, : length[row]].tolist()) for row in range(5)])
        assert ((tokens >= 0).sum(1) == length).all()
        assert ((frames >= 0).sum(1) == length).all()
    decoded = numpy(finish(state))
    for row in range(5):
        for _, string in strings(decoded, row):
            assert all(starts_with(string, beginning[row]) for beginning in stable)
    assert sum(len(beginning[row]) for beginning in stable for row in range(5)), "nothing was ever stable"
    return decoded


@pytest.mark.long
@pytest.mark.parametrize(
    "scorers",
    [
        pytest.param((), marks=pytest.mark.every_backend),
        (HotWords([[1, 2], [3, 3]], boost=1.0), Lexicon([[1], [2], [3], [1, 2]])),
    ],
    ids=["plain", "scored"],
)
def test_the_end_is_the_answer_of_all_frames(scorers):
    search = CTCBeamSearch(beam_width=4, top_paths=3, scorers=scorers)
    expected = numpy(quick(search)(LOGITS, LENGTHS))
    streaming = CTCStreaming(search=search, max_length=12)
    ways = [quick(method) for method in (streaming.advance, streaming.stable, streaming.finish)]
    sizes = [4, 4, 4] if BACKEND == "jax" else [5, 2, 5]  # JAX compiles each size
    for parts in (chunks(sizes), unequal_chunks()):
        got = run(streaming, ways, parts)
        for row in range(5):
            assert_strings(strings(got, row, frames=True), strings(expected, row, frames=True), atol=1e-5)


@pytest.mark.long
def test_compiled_equals_eager():
    end = compiled(lambda state: (PLAIN.stable(state), PLAIN.finish(state)))
    state, twin = PLAIN.start(5, 4), PLAIN.start(5, 4)
    for logits, lengths in chunks([4, 4, 4]):
        state, twin = compiled_advance(state, logits, lengths), PLAIN.advance(twin, logits, lengths)
    written, decoded = end(state)
    for one, other in zip(written, PLAIN.stable(twin), strict=True):
        np.testing.assert_array_equal(one, other)
    assert_same(numpy(decoded), numpy(PLAIN.finish(twin)))


@pytest.mark.long
def test_a_bad_row_stays_bad_and_changes_no_other():
    state, spoilt = PLAIN.start(5, 4), LOGITS.copy()
    spoilt[0, 2] = np.nan
    for logits, lengths in chunks([4, 4, 4], logits=spoilt):
        state = compiled_advance(state, logits, lengths)
    decoded, expected = numpy(PLAIN.finish(state)), numpy(PLAIN.search(LOGITS, LENGTHS))
    assert np.isnan(decoded.scores[0]).all()
    assert (decoded.lengths[0] == 0).all()
    assert_same(*(keras.tree.map_structure(lambda x: x[1:], x) for x in (decoded, expected)))


@pytest.mark.long
def test_what_is_longer_than_max_length_is_cut():
    streaming = CTCStreaming(search=CTCBeamSearch(beam_width=4), max_length=3)
    advance, state = quick(streaming.advance), streaming.start(5, 4)
    for logits, lengths in chunks([6, 6]):
        state = advance(state, logits, lengths)
    decoded, expected = numpy(streaming.finish(state)), numpy(quick(streaming.search)(LOGITS, LENGTHS))
    assert expected.lengths.max() > 3
    np.testing.assert_array_equal(decoded.lengths, np.minimum(expected.lengths, 3))
    np.testing.assert_array_equal(decoded.tokens, expected.tokens[:, :, :3])
    with pytest.raises(ValueError, match="max_length=0"):
        CTCStreaming(search=CTCBeamSearch(), max_length=0)
