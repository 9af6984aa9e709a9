"""Prefix beam search: against every string, against a slow beam, against TensorFlow's, and on what can be drawn."""

import numpy as np
import pytest
from keras import ops

import kseq
from kseq.decoding import CTCBeamSearch, HotWords, ctc_beam_search, ctc_greedy_decode
from tests.decoding.ctc.models import (
    LENGTHS,
    assert_same,
    assert_strings,
    numpy,
    random_logits,
    search,
    search_compiled,
    strings,
    ways,
)
from tests.reference import ctc_decoding as reference

WIDE = 300  # 6 frames hold some 1,000 strings of 3 symbols; what this drops is next to impossible


def real(logits, row):
    return reference.log_softmax(logits[row, : LENGTHS[row]])


@pytest.mark.parametrize("blank_index", [0, 2, 3])
def test_a_wide_beam_finds_the_best_of_all_strings(blank_index):
    logits = random_logits(seed=blank_index)
    decoded = search(logits, LENGTHS, beam_width=WIDE, top_paths=8, blank_index=blank_index)
    for row in range(5):
        assert_strings(strings(decoded, row), reference.best_strings(real(logits, row), blank_index, 8))


def test_a_beam_for_every_string_keeps_every_string():
    logits = random_logits(seed=5, shape=(2, 4, 3))
    decoded = search(logits, [4, 3], beam_width=40, top_paths=40)
    for row, length in enumerate([4, 3]):
        everything = reference.best_strings(reference.log_softmax(logits[row, :length]), 0, 99)
        assert_strings(strings(decoded, row), everything)
        probability = np.logaddexp.reduce([score for score, _ in strings(decoded, row)])
        assert probability == pytest.approx(0.0, abs=1e-5)


@pytest.mark.long
@pytest.mark.every_backend
@pytest.mark.parametrize(
    ("beam_width", "classes_per_frame"),
    [(1, None), (2, None), (3, 2), (7, None), (7, 2)],
)
def test_a_narrow_beam_equals_the_slow_one(beam_width, classes_per_frame):
    logits, lengths = random_logits(seed=1, shape=(8, 12, 6)), np.array([12] * 6 + [9, 1])
    options = {"beam_width": beam_width, "classes_per_frame": classes_per_frame}
    decoded = search(logits, lengths, **options, top_paths=beam_width, blank_index=1)
    for row, length in enumerate(lengths):
        expected = reference.prefix_beam_search(reference.log_softmax(logits[row, :length]), 1, **options)
        assert_strings(strings(decoded, row, frames=True), expected)


@pytest.mark.long
def test_repeated_classes_and_prefixes_that_come_back_are_merged():
    # Two symbols and many frames: nearly every extension is in the beam already, and prefixes come and go.
    logits = random_logits(seed=2, shape=(16, 24, 3), sharpness=0.7)
    decoded = search(logits, [24] * 16, beam_width=5, top_paths=5)
    came_back = 0
    for row in range(16):
        log_probabilities = reference.log_softmax(logits[row])
        assert_strings(
            strings(decoded, row, frames=True), reference.prefix_beam_search(log_probabilities, 0, 5), atol=1e-3
        )
        beams = [{s for _, s, _ in reference.prefix_beam_search(log_probabilities[:t], 0, 5)} for t in range(1, 25)]
        seen = [
            prefix
            for t in range(2, 24)
            for prefix in beams[t] - beams[t - 1]
            if any(prefix in beam for beam in beams[: t - 1]) and any(s[: len(prefix)] == prefix for s in beams[t - 1])
        ]
        came_back += len(seen)
    assert came_back, "no prefix came back to its children: the test does not test it"


@pytest.mark.long
@pytest.mark.parametrize("beam_width", [2, 5, 30])
def test_no_score_is_above_the_strings_log_probability(beam_width):
    logits = random_logits(seed=3, shape=(8, 12, 6))
    decoded = search(logits, [12] * 8, beam_width=beam_width, top_paths=2)
    below = 0
    for row in range(8):
        for score, string in strings(decoded, row):
            exact = reference.string_log_probability(reference.log_softmax(logits[row]), string, 0)
            assert score <= exact + 1e-4
            below += score < exact - 1e-4
    assert beam_width == 30 or below


@pytest.mark.long
@pytest.mark.parametrize(("beam_width", "classes"), [(1, 4), (3, 4), (10, 9), (30, 9), (3, 40)])
def test_equals_tensorflows(beam_width, classes):
    # The definitions differ in two things: TensorFlow's blank is the last class, and it forgets some extensions, as its
    # twin says. Where the twin's beam is that of prefix beam search, TensorFlow's answer is ours.
    import tensorflow as tf

    logits = random_logits(seed=4, shape=(8, 20, classes), sharpness=2.0)
    lengths = np.array([20, 19, 17, 11, 7, 3, 2, 1], "int32")
    paths = min(beam_width, 5)
    decoded = search(logits, lengths, beam_width=beam_width, top_paths=paths, blank_index=classes - 1)
    sparse, scores = tf.nn.ctc_beam_search_decoder(
        logits.transpose(1, 0, 2), lengths, beam_width=beam_width, top_paths=paths
    )
    found = [tf.sparse.to_dense(x, default_value=-1).numpy() for x in sparse]
    equal = 0
    for row, length in enumerate(lengths):
        log_probabilities = reference.log_softmax(logits[row, :length])
        twin = reference.tensorflows_beam_search(log_probabilities, classes - 1, beam_width)[:paths]
        slow = [x[:2] for x in reference.prefix_beam_search(log_probabilities, classes - 1, beam_width)[:paths]]
        theirs = [(scores[row, n], tuple(k for k in x[row].tolist() if k >= 0)) for n, x in enumerate(found)]
        assert_strings(theirs, twin, atol=1e-3)
        if all(a[1] == b[1] and abs(a[0] - b[0]) < 1e-9 for a, b in zip(twin, slow, strict=True)):
            assert_strings(strings(decoded, row), theirs, atol=1e-3)
            equal += 1
    assert equal >= 6


@pytest.mark.long
def test_frames_are_where_the_symbols_are():
    path = [0, 1, 1, 0, 1, 2, 2, 0, 0, 3]
    decoded = search(8 * np.eye(4, dtype="float32")[[path]], [10], beam_width=20, top_paths=2)
    score, string, frames = strings(decoded, 0, frames=True)[0]
    assert string == (1, 1, 2, 3)
    assert frames == (1, 4, 5, 9)
    assert score == pytest.approx(0.0, abs=0.05)


def test_greedy_fails_and_the_beam_wins():
    logits = np.log(np.array([[[0.4, 0.35, 0.25]] * 2], "float32"))
    greedy, beam = numpy(ctc_greedy_decode(logits, np.array([2]))), search(logits, [2], beam_width=3, top_paths=2)
    assert_strings(strings(greedy, 0), [(np.log(0.16), ())])
    assert_strings(
        strings(beam, 0), [(np.log(0.35**2 + 2 * 0.4 * 0.35), (1,)), (np.log(0.25**2 + 2 * 0.4 * 0.25), (2,))]
    )


@pytest.mark.long
@pytest.mark.every_backend
def test_every_way_gives_the_same():
    logits = random_logits(seed=6)
    (_, expected), *others = ways(
        lambda x, n: ctc_beam_search(x, n, beam_width=4, top_paths=3, classes_per_frame=2), logits, LENGTHS
    )
    for _, answer in others:
        assert_same(answer, expected)
    assert expected.tokens.shape == expected.frames.shape == (5, 3, 6)
    assert [x.dtype for x in expected] == ["int32", "int32", "float32", "int32"]


@pytest.mark.long
def test_a_row_alone_equals_the_row_in_the_batch():
    logits = random_logits(seed=7)
    together = search(logits, LENGTHS, beam_width=4, top_paths=3)
    for row in range(5):
        alone = search(logits[row : row + 1], LENGTHS[row : row + 1], beam_width=4, top_paths=3)
        assert_same(alone, type(together)(*(x[row : row + 1] for x in together)))
    cut = search(logits[1:2, :4], LENGTHS[1:2], beam_width=4, top_paths=3)
    assert_strings(strings(cut, 0, frames=True), strings(together, 1, frames=True), atol=1e-5)


@pytest.mark.long
def test_padding_and_bad_rows_change_no_other():
    logits = random_logits(seed=7)
    expected = search_compiled(logits, LENGTHS, beam_width=4, top_paths=3)
    spoilt = np.where(np.arange(6)[:, None] < LENGTHS[:, None, None], logits, np.nan)
    assert_same(search_compiled(spoilt, LENGTHS, beam_width=4, top_paths=3), expected, atol=0)
    for bad in (np.nan, np.inf, -np.inf):
        spoilt[0, 2] = bad
        decoded = search_compiled(spoilt, LENGTHS, beam_width=4, top_paths=3)
        assert np.isnan(decoded.scores[0]).all()
        assert (decoded.lengths[0] == 0).all()
        assert (decoded.tokens[0] == -1).all()
        assert (decoded.frames[0] == -1).all()
        assert_same(type(decoded)(*(x[1:] for x in decoded)), type(decoded)(*(x[1:] for x in expected)), atol=0)


def test_impossible_classes_are_never_written():
    logits = random_logits(seed=8)
    logits[:, :, 2] = -np.inf
    decoded = search(logits, LENGTHS, beam_width=30, top_paths=8)
    assert not (decoded.tokens == 2).any()
    for row in range(5):
        with np.errstate(divide="ignore"):
            expected = reference.best_strings(real(logits, row), 0, 8)
        assert_strings(strings(decoded, row), expected)


@pytest.mark.long
def test_wrong_lengths_count_as_the_nearest_in_compiled_functions():
    logits = random_logits(seed=7)
    got = search_compiled(logits, np.array([7, -2, 99, 6, 0], "int32"), beam_width=4, top_paths=3)
    expected = search_compiled(logits, np.array([6, 0, 6, 6, 0], "int32"), beam_width=4, top_paths=3)
    assert_same(got, expected, atol=0)


@pytest.mark.long
def test_half_precision_is_searched_in_float32():
    logits = np.asarray(ops.cast(random_logits(seed=9), "float16"))
    got = search(logits, LENGTHS, beam_width=4, top_paths=3)
    assert_same(got, search(logits.astype("float32"), LENGTHS, beam_width=4, top_paths=3))
    assert got.scores.dtype == "float32"


@pytest.mark.long
def test_no_frames_and_no_rows():
    for shape in ((2, 0, 4), (0, 6, 4)):
        decoded = ctc_beam_search(np.zeros(shape, "float32"), np.zeros(shape[0], "int32"), beam_width=4, top_paths=2)
        assert tuple(decoded.tokens.shape) == (shape[0], 2, shape[1])
        assert np.asarray(decoded.lengths).tolist() == [[0, 0]] * shape[0]
        assert np.asarray(decoded.scores).tolist() == np.float32([[0.0, -1e30]] * shape[0]).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beam_width": 0}, "beam_width must be 1 or more, but got beam_width=0"),
        ({"beam_width": 3, "top_paths": 4}, "top_paths must be between 1 and beam_width.*top_paths=4.*beam_width=3"),
        ({"top_paths": 0}, "top_paths=0"),
        ({"classes_per_frame": 0}, "classes_per_frame must be 1 or more"),
        ({"blank_index": 4}, "blank_index=4 is outside the 4 classes.*between 0 and 3"),
        ({"blank_index": -5}, "blank_index=-5 is outside the 4 classes.*-1"),
        ({"logit_lengths": np.array([6, 4, 7, 1, 5])}, r"logit_lengths\[2\]=7 does not fit logits of 6 frames"),
        ({"logit_lengths": np.array([6, 4, -1, 1, 5])}, r"logit_lengths\[2\]=-1"),
        ({"logit_lengths": np.array([6.0] * 5)}, r"integers of shape .batch,. = .5,., but they are float"),
        ({"logit_lengths": np.array([6])}, r"integers of shape .batch,. = .5,., but they are int.* of shape .1,."),
        ({"logits": np.zeros((5, 6), "float32")}, r"shape .batch, time, classes.*float32 of shape .5, 6."),
        ({"logits": np.zeros((5, 6, 4), "int32")}, "needs float logits.*int32"),
        ({"logits": np.full((5, 6, 4), np.nan, "float32")}, "Row 0 has logits in frame 0 that are no probabilities"),
        ({"logits": np.zeros((5, 6, 1), "float32")}, "the logits have 1 class"),
    ],
)
def test_says_what_is_wrong(arguments, message):
    usual = {"logits": random_logits(), "logit_lengths": LENGTHS}
    with pytest.raises(ValueError, match=message):
        ctc_beam_search(**{**usual, **arguments})


@pytest.mark.long_on_jax
def test_names_the_row_and_frame_of_a_bad_logit_but_not_in_padding():
    logits = random_logits()
    logits[1, 4:] = np.nan
    ctc_beam_search(logits, LENGTHS)
    logits[1, 3, 2] = np.nan
    with pytest.raises(ValueError, match="Row 1 has logits in frame 3"):
        ctc_beam_search(logits, LENGTHS)


@pytest.mark.long
def test_the_object_has_the_functions_defaults():
    assert kseq.ctc_beam_search is ctc_beam_search
    logits = random_logits()
    assert_same(numpy(CTCBeamSearch()(logits, LENGTHS)), numpy(ctc_beam_search(logits, LENGTHS)), atol=0)


@pytest.mark.long
@pytest.mark.parametrize("decode", [ctc_greedy_decode, ctc_beam_search])
def test_a_blank_may_be_counted_from_the_last_class(decode):
    logits = random_logits()
    for blank in (-1, -4, np.int64(-2)):
        expected = decode(logits, LENGTHS, blank_index=int(blank) + 4)
        assert_same(numpy(decode(logits, LENGTHS, blank_index=blank)), numpy(expected), atol=0)


def test_lengths_are_checked_before_they_are_converted():
    with pytest.raises(ValueError, match="does not fit logits of 6 frames"):
        ctc_beam_search(random_logits(), np.array([6, 4, 2**32 + 3, 1, 5]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"beam_width": 2.5}, ValueError, "beam_width must be a whole number"),
        ({"blank_index": "last"}, ValueError, "blank_index must be a whole number"),
        ({"scorers": HotWords([[1]])}, TypeError, r"got a HotWords alone. Write \(scorer,\)"),
        ({"scorers": (HotWords,)}, TypeError, "scorers must be objects"),
    ],
)
def test_says_what_is_wrong_with_an_option(options, error, message):
    with pytest.raises(error, match=message):
        CTCBeamSearch(**options)


@pytest.mark.long
def test_no_frames_after_calls_with_frames():
    """The second call is a graph for any number of frames, but no frame at all, or other classes, must not enter it."""
    search = kseq.decoding.CTCBeamSearch(beam_width=2)
    for frames, classes in ((3, 3), (4, 3), (5, 3), (5, 4), (5, 5), (5, 4), (0, 3)):
        decoded = search(np.zeros((1, frames, classes), "float32"), np.array([frames]))
        assert decoded.tokens.shape[2] == frames
    np.testing.assert_array_equal(decoded.lengths, [[0]])
