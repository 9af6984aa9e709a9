"""Sampling: cuts against sorting, frequencies against the true distribution."""

import itertools

import numpy as np
import pytest
from keras import ops

from kseq.decoding import Sampling, sample
from kseq.decoding.nucleus import draw, smallest_set
from tests.decoding.models import EOS, IDS, RandomRNN, hypotheses, run, run_model
from tests.reference import decoding as reference
from tests.reference import sampling as twin
from tests.support import compiled

MAX_LENGTH = 3
MODEL = RandomRNN(seed=5, vocabulary=4, sharpness=1.0)
CUTS = [
    {"temperature": 0.5},
    {"top_k": 3},
    {"top_k": 99},
    {"top_p": 0.7},
    {"top_p": 0.999},
    {"top_p": 1e-6},
    {"min_p": 0.3},
    {"typical_p": 0.6},
    {"temperature": 2.0, "top_k": 7, "top_p": 0.8, "min_p": 0.2, "typical_p": 0.9},
]


@pytest.mark.parametrize("options", [{"min_p": 1.0}, {"min_p": 1.0, "top_k": 3}], ids=str)
def test_min_p_keeps_what_is_exactly_at_the_threshold(options):
    masses = np.asarray(
        Sampling(**options).probabilities(ops.log_softmax(np.array([[2.0, 1.9, 2.0, -1.0]], "float32")))
    )
    np.testing.assert_array_equal(masses[0] > 0, [True, False, True, False])


@pytest.mark.every_backend
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_cuts_equal_the_slow_ones(cut):
    logits = np.random.default_rng(0).normal(size=(20, 11)).astype("float32")
    masses = np.asarray(Sampling(**cut).probabilities(ops.log_softmax(logits)))
    expected = [twin.probabilities(row, **cut) for row in logits]
    np.testing.assert_allclose(masses / masses.sum(axis=1, keepdims=True), expected, atol=1e-6)


def test_of_equal_tokens_the_lower_ids_stay():
    logits = np.log(np.array([[0.1, 0.2, 0.1, 0.2, 0.2, 0.2]], "float32"))
    for cut, kept in [({"top_k": 2}, [1, 3]), ({"top_k": 5}, [0, 1, 3, 4, 5]), ({"top_p": 0.5}, [1, 3, 4])]:
        assert np.flatnonzero(np.asarray(Sampling(**cut).probabilities(logits))[0]).tolist() == kept


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    random = np.random.default_rng(1)
    p = random.dirichlet(np.full(6, 0.7), size=8).astype("float32")
    kept = np.asarray(compiled(lambda p: smallest_set(-ops.log(p), p, 0.6))(p))
    for row, mask in zip(p, kept, strict=True):
        sizes = [len(s) for n in range(7) for s in itertools.combinations(range(6), n) if row[list(s)].sum() >= 0.6]
        assert mask.sum() == min(sizes)
        assert row[mask].sum() >= 0.6
        assert row[mask].min() >= row[~mask].max()


def test_what_is_forbidden_is_never_drawn():
    masses = np.array([[0, 0, 1e-30, 0], [0, 1, 0, 0], [1, 0, 0, 1]], "float32")
    for number, expected in [(0.0, [2, 1, 3]), (0.49, [2, 1, 3]), (0.5, [2, 1, 0]), (1 - 2**-23, [2, 1, 0])]:
        assert np.asarray(draw(masses, np.full(3, number, "float32"))).tolist() == expected


@pytest.fixture(scope="module")
def samples():
    """2000 samples of each row, each from a row's seed."""
    return run_model(sample, MODEL, max_length=MAX_LENGTH, num_samples=2000, seed=np.array([1, 2], "int32"))


def test_frequencies_are_those_of_the_model(samples):
    for row in range(2):
        drawn = [tokens for _, tokens, _ in hypotheses(samples, row)]
        every = list(reference.every_hypothesis(MODEL.predict(row), 4, EOS, MAX_LENGTH))
        expected = np.array([np.exp(h.total) for h in every]) * len(drawn)
        counts = np.array([drawn.count(h.tokens) for h in every])
        assert counts.sum() == len(drawn)
        rare = expected < 5  # together, as the chi-squared test wants it
        expected = np.append(expected[~rare], expected[rare].sum())
        counts = np.append(counts[~rare], counts[rare].sum())
        statistic, freedom = np.sum((counts - expected) ** 2 / expected), len(expected) - 1
        assert statistic < freedom + 3.3 * np.sqrt(2 * freedom), (statistic, freedom)  # about 0.1 %


def test_scores_are_the_models_own_and_best_first(samples):
    assert (np.diff(np.asarray(samples.scores)) <= 0).all()
    cut = run_model(sample, MODEL, max_length=MAX_LENGTH, num_samples=3, temperature=3.0, top_k=3, seed=4)
    for row in range(2):
        predict = MODEL.predict(row)
        for place, (score, tokens, _) in enumerate(hypotheses(cut, row)):
            own = [predict(tokens[:i])[0][token] for i, token in enumerate(tokens)]
            np.testing.assert_allclose(cut.log_probabilities[row, place, : len(tokens)], own, atol=1e-5)
            np.testing.assert_allclose(score, sum(own), atol=1e-5)


@pytest.mark.long
def test_seeds_tell_samples_apart():
    options = {"max_length": 8, "num_samples": 4, "temperature": 2.0}
    one, again, other = (
        np.asarray(run_model(sample, MODEL, seed=np.array(seeds, "int32"), **options).tokens)
        for seeds in ([1, 2], [1, 3], [3, 1])
    )
    np.testing.assert_array_equal(one[0], again[0])
    assert (one[1] != again[1]).any()
    assert (one[0] != other[0]).any()
    assert len({tuple(tokens) for tokens in one[0]}) > 1


@pytest.mark.every_backend
def test_a_seed_gives_the_same_samples_on_every_backend():
    table = np.log(np.array([[0, 0.6, 0.4, 0], [0, 0.3, 0.3, 0.4], [0, 0, 0, 1], [0, 0, 0, 1]], "float32") + 1e-9)
    options = {"bos_id": 0, "eos_id": 3, "max_length": 4, "num_samples": 2, "seed": 1}
    decoded = run(sample, lambda tokens, state: (ops.take(table, tokens, axis=0), state), np.zeros((1, 1)), **options)
    assert np.asarray(decoded.tokens).tolist() == [[[1, 3, 0, 0], [1, 1, 2, 3]]]


@pytest.mark.long
@pytest.mark.long_on_jax
def test_without_a_seed_every_call_differs():
    def step(tokens, state):
        return ops.zeros((ops.shape(tokens)[0], 50)), state

    one, other = (sample(step, np.zeros((1, 1)), **IDS, max_length=9).tokens for _ in range(2))
    assert (np.asarray(one) != np.asarray(other)).any()


@pytest.mark.long
def test_without_a_seed_a_graph_draws_at_every_call():
    import tensorflow as tf

    def step(tokens, state):
        return ops.zeros((ops.shape(tokens)[0], 50)), state

    function = tf.function(lambda state: sample(step, state, **IDS, max_length=5).tokens)
    state = np.zeros((1, 1), "float32")
    assert (np.asarray(function(state)) != np.asarray(function(state))).any()


def test_nothing_is_spent_on_rows_that_have_ended():
    calls = []

    def step(tokens, left):
        calls.append(1)
        return ops.one_hot(ops.where(left > 1, 3, EOS), 4) * 99.0, left - 1

    decoded = run(sample, step, np.array([1, 3]), max_length=6, seed=0, pad_id=-1)
    assert np.asarray(decoded.tokens).tolist() == [[[EOS, -1, -1, -1, -1, -1]], [[3, 3, EOS, -1, -1, -1]]]
    assert len(calls) - 1 == 3  # as many as the longest row has tokens


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0, but got temperature=0.0"),
        ({"temperature": 1e-40}, "temperature must be above 0, but got temperature=1e-40, and 1e-30 at least"),
        ({"top_k": -1}, "top_k=-1"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, but got top_p=0.0"),
        ({"typical_p": 1.5}, "typical_p=1.5"),
        ({"min_p": -0.1}, "min_p=-0.1"),
        ({"num_samples": 0}, "num_samples=0"),
    ],
)
def test_says_what_is_wrong_with_options(options, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**options)
