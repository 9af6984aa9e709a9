"""Several models' steps as one: against the mean of their probabilities, taken by hand over every sequence."""

import numpy as np
import pytest
from keras import ops

from kseq.decoding import EnsembleStep, FusionStep, beam_search, greedy_search
from tests.decoding.models import BOS, EOS, IDS, RandomRNN, assert_hypotheses, quick, run
from tests.reference import decoding as reference

MODELS = [RandomRNN(seed=41), RandomRNN(seed=42, units=4)]
STATES, MEMORIES = tuple(m.state for m in MODELS), tuple(m.memory for m in MODELS)
STEPS = tuple(m.step for m in MODELS)
WEIGHTS = (3.0, 1.0)  # three quarters and one


TABLE = np.random.default_rng(5).normal(size=(5, 5)).astype("float32")


def language_step(tokens, state):
    """A model of pairs, without memory and without alignments."""
    return ops.take(TABLE, tokens, axis=0), state


def log_softmax(x):
    return x - np.log(np.sum(np.exp(x)))


def predict_mean(row, combine):
    each = [model.predict(row) for model in MODELS]

    def predict(prefix):
        (first, first_weights), (second, second_weights) = (one(prefix) for one in each)
        return log_softmax(combine(first, second)), 0.75 * first_weights + 0.25 * second_weights

    return predict


MEANS = {
    "probabilities": lambda a, b: np.log(0.75 * np.exp(a) + 0.25 * np.exp(b)),
    "log_probabilities": lambda a, b: 0.75 * a + 0.25 * b,
}


@pytest.mark.parametrize("mean", MEANS)
def test_finds_the_best_by_the_mean(mean):
    step = EnsembleStep(steps=STEPS, weights=WEIGHTS, mean=mean)
    decoded = run(beam_search, step, STATES, MEMORIES, max_length=4, beam_width=64, top_paths=5)
    for row in range(2):
        predict = predict_mean(row, MEANS[mean])
        best = reference.exhaustive_search(predict, 5, EOS, 4, 5)
        assert_hypotheses(decoded, row, best)
        tokens = best[0][1].tokens
        looked = [predict(tokens[:i])[1] for i in range(len(tokens))]
        np.testing.assert_allclose(decoded.alignments[row, 0, : len(tokens), : len(looked[0])], looked, atol=1e-5)


def test_one_model_alone_is_itself():
    (state, memory), ensemble = (MODELS[0].state, MODELS[0].memory), EnsembleStep(steps=STEPS[:1])
    alone = run(greedy_search, MODELS[0].step, state, memory, max_length=5)
    together = run(greedy_search, ensemble, (state,), (memory,), max_length=5)
    np.testing.assert_array_equal(together.tokens, alone.tokens)
    np.testing.assert_allclose(together.scores, alone.scores, atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_fusion_finds_the_best_by_the_weighted_sum(weight):
    step = FusionStep(step=STEPS[0], language_model=language_step, weight=weight)
    states = (STATES[0], np.zeros((2, 1), "float32"))
    decoded = run(beam_search, step, states, (MEMORIES[0], None), max_length=4, beam_width=64, top_paths=5)
    for row in range(2):
        own = MODELS[0].predict(row)

        def predict(prefix, own=own):
            log_probabilities, alignments = own(prefix)
            language = TABLE[prefix[-1] if prefix else BOS]
            return log_softmax(log_probabilities + weight * log_softmax(language)), alignments

        assert_hypotheses(decoded, row, reference.exhaustive_search(predict, 5, EOS, 4, 5))


def test_models_without_memory():
    states = (np.zeros((2, 1), "float32"), np.zeros((2, 1), "float32"))
    function = quick(lambda states: greedy_search(EnsembleStep(steps=[language_step] * 2), states, **IDS, max_length=3))
    decoded = function(states)
    assert decoded.alignments is None
    assert decoded.tokens.shape == (2, 1, 3)


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="needs a step or several"):
        EnsembleStep(steps=())
    with pytest.raises(ValueError, match=r"one for each of the 2 models, above 0, but got \(1.0, 0.0\)"):
        EnsembleStep(steps=STEPS, weights=(1.0, 0.0))
    with pytest.raises(ValueError, match="mean must be one of"):
        EnsembleStep(steps=STEPS, mean="geometric")
    with pytest.raises(ValueError, match="weight must be 0 or more, but got weight=-1"):
        FusionStep(step=STEPS[0], language_model=language_step, weight=-1)
    other = RandomRNN(seed=1, vocabulary=6)
    step = EnsembleStep(steps=(STEPS[0], other.step))
    with pytest.raises(ValueError, match=r"logits have \[5, 6\] classes, but they must have one vocabulary"):
        greedy_search(step, (STATES[0], other.state), memory=(MEMORIES[0], other.memory), **IDS, max_length=3)
    with pytest.raises(ValueError, match="state must be a tuple of 2, one for each model, but is a tuple of 1"):
        greedy_search(EnsembleStep(steps=STEPS), STATES[:1], memory=MEMORIES, **IDS, max_length=3)


def test_what_all_take_for_very_improbable_stays_possible():
    logits = np.array([[0.0, -110.0]], "float32")

    def step(tokens, state):
        return ops.broadcast_to(logits, (ops.shape(tokens)[0], 2)), state

    state = np.zeros((1, 1), "float32")
    output = EnsembleStep(steps=(step, step))(np.zeros(1, "int32"), (state, state))
    np.testing.assert_allclose(output.logits, logits, rtol=1e-6)
