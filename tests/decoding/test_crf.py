"""Decoding of linear-chain CRFs: best sequences and marginals, compared with enumeration; and wrong input."""

import functools

import numpy as np
import pytest
from keras import ops

from kseq.decoding import LOG_ZERO, crf_decode, crf_marginals
from kseq.tag_schemes import allowed_transitions
from tests.alignment.chain_cases import LENGTHS, ROWS, TAGS, TIME, random_case
from tests.reference import crf as reference
from tests.support import compiled, gradient, traced


@functools.cache
def compiled_decoding(top_paths):
    def function(scores, lengths, transitions, start, end):
        return crf_decode(scores, lengths, transitions=transitions, start=start, end=end, top_paths=top_paths)

    return compiled(function)


@functools.cache
def compiled_marginals():
    return compiled(lambda x, n, a, b, c: crf_marginals(x, n, transitions=a, start=b, end=c))


def arguments(case, lengths=LENGTHS):
    return [ops.convert_to_tensor(x) for x in (case.scores, lengths, case.transitions, case.start, case.end)]


def expected_decoding(case, top_paths):
    """Return the best sequences of each row, and their log-probabilities."""
    tags = np.full((ROWS, top_paths, TIME), -1)
    scores = np.full((ROWS, top_paths), LOG_ZERO)
    for row, sequences in enumerate(case.sequences):
        total = reference.log_total(sequences)
        for rank, (found, score) in enumerate(sequences[:top_paths]):
            if score > -np.inf:
                tags[row, rank, : len(found)], scores[row, rank] = found, score - total
    return tags, scores


@pytest.mark.every_backend
@pytest.mark.parametrize("top_paths", [pytest.param(1, marks=pytest.mark.long), 4])
@pytest.mark.parametrize(("scale", "forbidden"), [(1.0, False), (1.0, True), (1e4, True)])
def test_equals_the_enumeration_of_all_sequences(scale, forbidden, top_paths):
    case = random_case(scale, forbidden=forbidden, seed=1)
    decoded = compiled_decoding(top_paths)(*arguments(case))
    tags, scores = expected_decoding(case, top_paths)
    assert (scores[1] == [0.0, *[LOG_ZERO] * (top_paths - 1)]).all()  # the row without steps
    np.testing.assert_array_equal(decoded.tags, tags)
    np.testing.assert_allclose(decoded.scores, scores, rtol=1e-5, atol=1e-5 if scale < 10 else 4e-3)


@pytest.mark.long
@pytest.mark.every_backend
@pytest.mark.parametrize(("scale", "atol"), [(1.0, 1e-6), (1e4, 2e-3)])
def test_marginals_equal_the_enumeration(scale, atol):
    case = random_case(scale, forbidden=True, seed=2)
    got = np.asarray(compiled_marginals()(*arguments(case)))
    for row, length in enumerate(LENGTHS):
        expected = np.zeros((TIME, TAGS))
        expected[:length] = reference.marginals(case.sequences[row], length, TAGS)
        np.testing.assert_allclose(got[row], expected, atol=atol)


@pytest.mark.long
def test_eager_calls_equal_compiled_ones():
    case = random_case(forbidden=True, seed=3)
    for top_paths in (1, 4):
        eager = crf_decode(case.scores, LENGTHS, **case.chain, top_paths=top_paths)
        fast = compiled_decoding(top_paths)(*arguments(case))
        np.testing.assert_array_equal(eager.tags, fast.tags)
        np.testing.assert_allclose(eager.scores, fast.scores, rtol=1e-6, atol=1e-6)
    marginals = crf_marginals(case.scores, LENGTHS, **case.chain)
    np.testing.assert_allclose(marginals, compiled_marginals()(*arguments(case)), atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("top_paths", [1, 9])
def test_of_equals_the_first_in_lexicographic_order_wins(top_paths):
    decoded = crf_decode(np.zeros((1, 2, 3)), [2], transitions=np.zeros((3, 3)), top_paths=top_paths)
    np.testing.assert_array_equal(decoded.tags[0], [*np.ndindex(3, 3)][:top_paths])
    np.testing.assert_allclose(decoded.scores, np.full((1, top_paths), np.log(1 / 9)), rtol=1e-6)


@pytest.mark.long
def test_the_best_sequence_is_not_made_of_the_best_tags():
    scores = np.array([[[1.0, 0.0, 0.0], [0.0, 0.9, 1.0]]])
    allowed = allowed_transitions(["O", "B-X", "I-X"], "BIO")
    greedy = crf_decode(scores, [2], transitions=np.zeros((3, 3)))
    np.testing.assert_array_equal(greedy.tags, [[[0, 2]]])
    decoded = crf_decode(scores, [2], transitions=np.zeros((3, 3)), allowed=allowed, top_paths=9)
    np.testing.assert_array_equal(decoded.tags[0, 0], [0, 1])
    assert (np.asarray(decoded.tags)[0, 5:] == -1).all()  # 5 of the 9 sequences are allowed
    np.testing.assert_allclose(np.exp(decoded.scores).sum(), 1.0, rtol=1e-6)


@pytest.mark.long
def test_a_long_sequence_with_large_scores():
    """After 2000 steps the scores are 2e6 below those of a forbidden tag, where float32 has no decimal places."""
    random = np.random.default_rng(0)
    scores = random.normal(size=(1, 2000, 4)).astype("float32") - 1000.0
    transitions = random.normal(size=(4, 4)).astype("float32")
    scores[:, :, 3], transitions[:, 3], scores[0, 0, 3] = 0.0, -np.inf, -np.inf
    best, moves = scores[0, 0].astype("float64"), []
    for row in scores[0, 1:]:
        each = best[:, None] + transitions
        moves.append(each.argmax(0))
        best = each.max(0) + row
    path = [int(best.argmax())]
    for move in moves[::-1]:
        path.append(int(move[path[-1]]))
    for top_paths in (1, 2):
        call = traced(lambda x, n=top_paths: crf_decode(x, [2000], transitions=transitions, top_paths=n).tags[0, 0])
        np.testing.assert_array_equal(call(scores), path[::-1])


@pytest.mark.long
def test_in_a_graph_bad_rows_answer_for_themselves_alone():
    case, lengths = random_case(seed=4), LENGTHS.copy()
    scores = case.scores.copy()
    scores[0, 1, 2], lengths[3] = np.nan, TIME + 1
    bad = arguments(case._replace(scores=scores), lengths)
    good = [1, 2, 4, 5]
    of_graph = traced(lambda x, n: crf_marginals(x, n, **case.chain))
    marginals, expected = of_graph(*bad[:2]), of_graph(case.scores, LENGTHS)
    assert np.isnan(np.asarray(marginals)[[0, 3]]).all()
    np.testing.assert_allclose(np.asarray(marginals)[good], np.asarray(expected)[good], atol=1e-6)
    for top_paths in (1, 4):
        decoded = traced(lambda x, n, k=top_paths: crf_decode(x, n, **case.chain, top_paths=k))(*bad[:2])
        tags, log_probabilities = expected_decoding(case, top_paths)
        assert np.isnan(np.asarray(decoded.scores)[[0, 3]]).all()
        assert (np.asarray(decoded.tags)[[0, 3]] == -1).all()
        np.testing.assert_array_equal(np.asarray(decoded.tags)[good], tags[good])
        np.testing.assert_allclose(np.asarray(decoded.scores)[good], log_probabilities[good], rtol=1e-5, atol=1e-6)


def test_no_possible_sequence():
    nowhere = np.full((2, 2), -np.inf)
    for top_paths in (1, 2):
        decoded = crf_decode(np.zeros((2, 2, 2)), [2, 1], transitions=nowhere, top_paths=top_paths)
        assert (np.asarray(decoded.tags)[0] == -1).all()
        assert (np.asarray(decoded.scores)[0] == np.float32(LOG_ZERO)).all()
        np.testing.assert_array_equal(decoded.tags[1, 0], [0, -1])
    marginals = np.asarray(crf_marginals(np.zeros((2, 2, 2)), [2, 1], transitions=nowhere))
    np.testing.assert_allclose(marginals, [[[0, 0], [0, 0]], [[0.5, 0.5], [0, 0]]], rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("time", [0, 1])
def test_few_steps_one_tag_and_no_rows(time):
    decoded = crf_decode(np.zeros((2, time, 1)), [time, 0], transitions=[[1.0]], top_paths=2)
    assert decoded.tags.shape == (2, 2, time)
    np.testing.assert_array_equal(np.asarray(decoded.scores)[:, 0], [0.0, 0.0])
    assert (np.asarray(decoded.scores)[:, 1] == np.float32(LOG_ZERO)).all()
    assert crf_marginals(np.zeros((2, time, 1)), [time, 0], transitions=[[1.0]]).shape == (2, time, 1)
    assert crf_decode(np.zeros((0, time, 2)), np.zeros(0, int), transitions=np.eye(2)).tags.shape == (0, 1, time)


@pytest.mark.long
def test_graphs_of_unknown_shape():
    import tensorflow as tf

    case = random_case(seed=5)
    spec = [tf.TensorSpec((None, None, TAGS)), tf.TensorSpec([None], "int64")]
    for top_paths in (1, 4):
        call = tf.function(lambda x, n, k=top_paths: crf_decode(x, n, **case.chain, top_paths=k), input_signature=spec)
        decoded = call(case.scores, LENGTHS)
        np.testing.assert_array_equal(decoded.tags, expected_decoding(case, top_paths)[0])
        assert call(np.zeros((2, 0, TAGS), "float32"), np.zeros(2, int)).tags.shape == (2, top_paths, 0)


@pytest.mark.long
@pytest.mark.every_backend
def test_marginals_have_no_gradient_and_decoding_a_zero_one():
    case = random_case()
    scores = np.nan_to_num(case.scores)
    with pytest.raises(NotImplementedError, match="crf_marginals has no gradient"):
        gradient(lambda x: ops.sum(crf_marginals(x, LENGTHS, **case.chain) ** 2), scores)
    assert (gradient(lambda x: ops.sum(crf_decode(x, LENGTHS, **case.chain).scores), scores)[0] == 0).all()


@pytest.mark.parametrize("top_paths", [0, 1.5, None])
def test_top_paths_that_are_no_number_of_sequences_are_refused(top_paths):
    with pytest.raises(ValueError, match="top_paths"):
        crf_decode(np.zeros((1, 2, 2)), [2], transitions=np.eye(2), top_paths=top_paths)
