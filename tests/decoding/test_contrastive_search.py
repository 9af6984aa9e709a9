"""Contrastive search against its twin."""

import numpy as np
import pytest
from keras import ops

from kseq.decoding import ContrastiveSearch, StepOutput, SuppressedTokens, contrastive_search, greedy_search
from tests.decoding.models import EOS, IDS, RandomRNN, assert_hypotheses, hypotheses, run, run_model
from tests.reference import decoding as reference

MODEL = RandomRNN(seed=13, batch=5, vocabulary=7)


@pytest.mark.every_backend
@pytest.mark.parametrize(("top_k", "alpha", "ends"), [(3, 0.6, EOS), (5, 0.3, EOS), (99, 0.9, (EOS, 4))])
def test_equals_the_slow_one(top_k, alpha, ends):
    options = {"max_length": 6, "top_k": top_k, "penalty_alpha": alpha, "eos_id": ends}
    decoded = run_model(contrastive_search, MODEL, **options)
    for row in range(5):
        expected = reference.contrastive_search(MODEL.runner(row), ends, 6, top_k, alpha)
        assert_hypotheses(decoded, row, [(expected.total, expected)])
        for i in range(len(expected.tokens)):
            _, weights = MODEL.predict(row)(expected.tokens[:i])
            np.testing.assert_allclose(decoded.alignments[row, 0, i, : len(weights)], weights, atol=1e-5)


def test_without_penalty_it_is_greedy():
    contrastive = run_model(contrastive_search, MODEL, max_length=6, penalty_alpha=0.0)
    for got, expected in zip(contrastive, run_model(greedy_search, MODEL, max_length=6), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_avoids_what_it_has_written():
    vectors = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], "float32")

    def step(tokens, state):
        logits = ops.broadcast_to(np.array([-9, 2, 1, 0], "float32"), (ops.shape(tokens)[0], 4))
        return StepOutput(logits, state, None, ops.take(vectors, tokens, axis=0))

    options = {"bos_id": 0, "eos_id": 3, "max_length": 4, "top_k": 3}
    decoded = run(contrastive_search, step, np.zeros((1, 1)), **options)
    assert np.asarray(decoded.tokens).tolist() == [[[2, 1, 1, 1]]]


def test_what_is_forbidden_is_not_written_however_new_it_is():
    decoded = run_model(
        contrastive_search, MODEL, max_length=6, penalty_alpha=1.0, constraints=(SuppressedTokens((0, 3)),)
    )
    for row in range(5):
        ((_, tokens, _),) = hypotheses(decoded, row)
        assert not {0, 3} & set(tokens)


def test_needs_representations():
    def step(tokens, state):
        return ops.one_hot(tokens, 5), state

    with pytest.raises(ValueError, match="by their representations, but the step returned none"):
        contrastive_search(step, np.zeros((1, 1)), **IDS, max_length=3)


@pytest.mark.parametrize("options", [{"top_k": 0}, {"penalty_alpha": 1.5}], ids=str)
def test_says_what_is_wrong_with_options(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        ContrastiveSearch(**options)
