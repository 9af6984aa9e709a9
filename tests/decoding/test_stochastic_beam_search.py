"""Stochastic beam search: its samples against the probabilities of drawing one after the other."""

import itertools

import numpy as np
import pytest
from keras import ops

from kseq.decoding import StochasticBeamSearch, SuppressedTokens, stochastic_beam_search
from tests.decoding.models import EOS, RandomRNN, hypotheses, run, run_model
from tests.reference import decoding as reference

ROWS, MAX_LENGTH = 3000, 2
TABLE = np.random.default_rng(2).normal(size=(4, 4)).astype("float32")  # of each token's next; token 2 ends


def step(tokens, state):
    return ops.take(TABLE, tokens, axis=0), state


def every(allowed=(0, 1, 2, 3), temperature=1.0):
    """All hypotheses and the probabilities that they are drawn by, the forbidden tokens' shared among the others."""

    def predict(prefix):
        logits = np.where(np.isin(range(4), allowed), TABLE[prefix[-1] if prefix else 1] / temperature, -np.inf)
        return logits - np.log(np.sum(np.exp(logits))), None

    found = reference.every_hypothesis(predict, 4, EOS, MAX_LENGTH)
    return {h.tokens: np.exp(h.total) for h in found if h.total > -np.inf}


def draw(count, **options):
    state = np.zeros((ROWS, 1), "float32")
    return run(stochastic_beam_search, step, state, max_length=MAX_LENGTH, num_samples=count, seed=3, **options)


@pytest.mark.every_backend
@pytest.mark.parametrize("options", [{}, {"temperature": 2.0, "constraints": (SuppressedTokens((0,)),)}], ids=str)
def test_samples_without_replacement(options):
    p = every((1, 2, 3) if options else (0, 1, 2, 3), options.get("temperature", 1.0))
    decoded = draw(2, **options)
    tokens, lengths = np.asarray(decoded.tokens), np.asarray(decoded.lengths)
    pairs = [
        tuple(tuple(t[:n].tolist()) for t, n in zip(*row, strict=True)) for row in zip(tokens, lengths, strict=True)
    ]
    expected = {(a, b): ROWS * p[a] * p[b] / (1 - p[a]) for a, b in itertools.permutations(p, 2)}
    assert set(pairs) <= set(expected)  # no hypothesis twice
    often = [pair for pair in expected if expected[pair] >= 5]
    statistic = sum((pairs.count(pair) - expected[pair]) ** 2 / expected[pair] for pair in often)
    freedom = len(often)
    assert statistic < freedom + 3.3 * np.sqrt(2 * freedom), (statistic, freedom)  # about 0.1 %


def test_scores_weigh_an_unbiased_mean():
    decoded = draw(4)
    scores, totals = np.asarray(decoded.scores), np.sum(decoded.log_probabilities, axis=-1)
    assert (np.diff(scores) <= 0).all()
    inclusion = 1 - np.exp(-np.exp(totals[:, :3] - scores[:, 3:]))
    lengths = np.asarray(decoded.lengths)[:, :3]
    estimates = np.sum(np.exp(totals[:, :3]) / inclusion * lengths, axis=1)
    true = sum(p * len(tokens) for tokens, p in every().items())
    assert abs(estimates.mean() - true) < 3.3 * estimates.std() / np.sqrt(ROWS)


def test_more_samples_than_hypotheses():
    decoded = run(stochastic_beam_search, step, np.zeros((1, 1)), max_length=1, num_samples=6, seed=0)
    found = hypotheses(decoded, 0)
    assert sorted(tokens for _, tokens, _ in found[:4]) == [(0,), (1,), (2,), (3,)]
    assert [(tokens, score) for score, tokens, _ in found[4:]] == [((), np.float32(-1e30))] * 2


@pytest.mark.long
def test_what_is_returned_belongs_together():
    model = RandomRNN(seed=9)
    decoded = run_model(stochastic_beam_search, model, max_length=5, num_samples=4, seed=1, temperature=2.0)
    for row in range(2):
        predict = model.predict(row)
        assert len({tokens for _, tokens, _ in hypotheses(decoded, row)}) == 4
        for place, (_, tokens, finished) in enumerate(hypotheses(decoded, row)):
            assert finished == (tokens[-1] == EOS)
            for i, token in enumerate(tokens):
                log_probabilities, weights = predict(tokens[:i])
                np.testing.assert_allclose(
                    decoded.log_probabilities[row, place, i], log_probabilities[token], atol=1e-5
                )
                np.testing.assert_allclose(decoded.alignments[row, place, i, : len(weights)], weights, atol=1e-5)


@pytest.mark.parametrize("options", [{"num_samples": 0}, {"temperature": 0.0}], ids=str)
def test_says_what_is_wrong_with_options(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        StochasticBeamSearch(**options)
