"""Scoring: against the sum of the model's own log-probabilities, token by token."""

import keras
import numpy as np
import pytest

from kseq.decoding import LOG_ZERO, Decoded, beam_search, rescore, token_log_probabilities
from tests.decoding.models import RandomRNN, quick, run_model
from tests.support import compiled

MODEL = RandomRNN(seed=51, batch=3)
TOKENS = np.array([[[3, 4, 2, 9], [4, 9, 9, 9]], [[0, 0, 0, 0], [2, 9, 9, 9]], [[9, 9, 9, 9], [4, 3, 3, 2]]], "int32")
LENGTHS = np.array([[3, 1], [4, 1], [0, 4]], "int32")  # 9 is no token


def score(state, memory, tokens, lengths):
    return token_log_probabilities(MODEL.step, state, tokens, lengths, memory=memory, bos_id=1)


def expected():
    values = np.zeros(TOKENS.shape, "float32")
    for row, n, place in np.ndindex(TOKENS.shape):
        if place < LENGTHS[row, n]:
            log_probabilities, _ = MODEL.predict(row)(tuple(TOKENS[row, n, :place]))
            values[row, n, place] = log_probabilities[TOKENS[row, n, place]]
    return values


@pytest.mark.long_on_jax
def test_each_token_has_the_models_own_log_probability():
    inputs = (MODEL.state, MODEL.memory, TOKENS, LENGTHS)
    function = compiled(score)
    np.testing.assert_allclose(quick(score)(*inputs), expected(), atol=1e-5)
    np.testing.assert_allclose(function(*inputs), expected(), atol=1e-5)
    for row in range(3):
        alone = quick(score)(*keras.tree.map_structure(lambda x, row=row: x[row : row + 1], inputs))
        np.testing.assert_allclose(alone[0], expected()[row], atol=1e-5)
    single = quick(score)(MODEL.state, MODEL.memory, TOKENS[:, 1], LENGTHS[:, 1])
    np.testing.assert_allclose(single, expected()[:, 1], atol=1e-5)


def test_what_was_decoded_has_the_score_it_was_decoded_with():
    decoded = run_model(beam_search, MODEL, max_length=5, beam_width=4, top_paths=3)
    scored = quick(score)(MODEL.state, MODEL.memory, np.asarray(decoded.tokens), np.asarray(decoded.lengths))
    np.testing.assert_allclose(scored, decoded.log_probabilities, atol=1e-5)
    np.testing.assert_allclose(np.sum(scored, axis=-1), decoded.scores, atol=1e-5)


def test_a_token_that_cannot_be():
    tokens, lengths = np.array([[3], [5], [-1]], "int32"), np.ones(3, "int32")
    values = np.asarray(quick(score)(MODEL.state, MODEL.memory, tokens, lengths))[:, 0]
    assert values[0] > -20
    assert (values[1:] <= -1e30).all()


def test_rescoring_ranks_anew():
    decoded = run_model(beam_search, MODEL, max_length=4, beam_width=4, top_paths=4)
    other = np.array([[-3.0, -1.0, -2.0, -1.0], [0.0, 0.0, 0.0, 0.0], [-1.0, -2.0, -3.0, -4.0]], "float32")
    again = rescore(decoded, other)
    for row, order in enumerate([[1, 3, 2, 0], [0, 1, 2, 3], [0, 1, 2, 3]]):
        for name in ("tokens", "lengths", "alignments", "finished", "log_probabilities"):
            np.testing.assert_array_equal(getattr(again, name)[row], np.asarray(getattr(decoded, name))[row][order])
        np.testing.assert_array_equal(again.scores[row], other[row][order])
    empty = decoded._replace(scores=np.full((3, 4), -1e30, "float32"), alignments=None)
    assert (np.asarray(rescore(empty, other).scores) <= -1e30).all()
    assert rescore(empty, other).alignments is None
    with pytest.raises(ValueError, match=r"\(batch, 4\), one for each hypothesis, but have shape \(3, 2\)"):
        rescore(decoded, other[:, :2])


def test_says_what_does_not_go_together():
    with pytest.raises(ValueError, match=r"tokens have shape \(3, 2, 4\) and lengths \(3,\)"):
        score(MODEL.state, MODEL.memory, TOKENS, LENGTHS[:, 0])


def test_a_hypothesis_that_is_impossible_comes_before_none():
    decoded = Decoded(
        tokens=np.array([[[3, 2], [0, 0]]], "int32"),
        lengths=np.array([[2, 0]], "int32"),
        scores=np.array([[-1.0, LOG_ZERO]], "float32"),
        alignments=None,
        finished=np.array([[True, False]]),
        log_probabilities=np.zeros((1, 2, 2), "float32"),
    )
    np.testing.assert_array_equal(rescore(decoded, np.array([[3 * LOG_ZERO, 0.0]])).lengths, [[2, 0]])
