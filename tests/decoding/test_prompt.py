"""Prompts of unequal lengths: against every sequence that begins with them."""

import numpy as np
import pytest
from keras import ops

from kseq.decoding import SuppressedTokens, beam_search, greedy_search, sample, stream
from tests.decoding.models import EOS, RandomRNN, assert_hypotheses, hypotheses, quick, run_model
from tests.reference import decoding as reference
from tests.support import compiled

MAX_LENGTH = 5
MODEL = RandomRNN(seed=31, batch=3)
PROMPTS = [(3, 0), (), (4,)]
COLUMNS = np.array([[3, 0, 9], [9, 9, 9], [4, 9, 9]], "int32")  # 9 is no token
PROMPT = {"prompt": COLUMNS, "prompt_lengths": np.array([2, 0, 1], "int32")}


def after(row):
    """The model of what follows the row's prompt."""
    return lambda prefix: MODEL.predict(row)((*PROMPTS[row], *prefix))


def with_prompt(row, hypothesis):
    return hypothesis._replace(tokens=(*PROMPTS[row], *hypothesis.tokens))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["gnmt", "average"])
@pytest.mark.parametrize("early_stopping", [True, False])
def test_a_wide_beam_finds_the_true_best_that_follow(kind, early_stopping):
    options = {"length_penalty": 0.8, "length_penalty_kind": kind, "early_stopping": early_stopping}
    decoded = run_model(beam_search, MODEL, max_length=MAX_LENGTH, beam_width=64, top_paths=8, **PROMPT, **options)
    for row, prompt in enumerate(PROMPTS):
        left = MAX_LENGTH - len(prompt)
        best = reference.exhaustive_search(after(row), 5, EOS, left, 8, exponent=0.8, kind=kind)
        assert_hypotheses(decoded, row, [(score, with_prompt(row, h)) for score, h in best])


def test_scored_prompts_count_by_their_own_probability():
    options = {"length_penalty": 0.8, "score_prompt": True, "constraints": (SuppressedTokens((3,)),)}
    decoded = run_model(beam_search, MODEL, max_length=MAX_LENGTH, beam_width=64, top_paths=8, **PROMPT, **options)
    for row, prompt in enumerate(PROMPTS):

        def allowed(tokens, prompt=prompt):  # constraints do not hold in the prompt
            return tokens[: len(prompt)] == prompt and 3 not in tokens[len(prompt) :]

        best = reference.exhaustive_search(MODEL.predict(row), 5, EOS, MAX_LENGTH, 8, allowed, exponent=0.8)
        assert_hypotheses(decoded, row, best)
        own = [MODEL.predict(row)(prompt[:i])[0][token] for i, token in enumerate(prompt)]
        np.testing.assert_allclose(decoded.log_probabilities[row, 0, : len(prompt)], own, atol=1e-5)


@pytest.mark.every_backend
def test_greedy_goes_on_from_the_prompt():
    decoded = run_model(greedy_search, MODEL, max_length=MAX_LENGTH, **PROMPT)
    for row, prompt in enumerate(PROMPTS):
        expected = reference.greedy_search(after(row), EOS, MAX_LENGTH - len(prompt))
        assert_hypotheses(decoded, row, [(expected.total, with_prompt(row, expected))])


def test_samples_follow_their_prompts():
    decoded = run_model(sample, MODEL, max_length=4, num_samples=50, temperature=5.0, seed=0, **PROMPT)
    for row, prompt in enumerate(PROMPTS):
        samples = {tokens for _, tokens, _ in hypotheses(decoded, row)}
        assert len(samples) > 5
        assert all(tokens[: len(prompt)] == prompt for tokens in samples)


@pytest.mark.long
def test_what_the_model_finds_impossible_can_be_forced():
    def step(tokens, state):
        return ops.broadcast_to(np.array([0, -np.inf, -np.inf, 1], "float32"), (ops.shape(tokens)[0], 4)), state

    options = {"bos_id": 0, "eos_id": 2, "max_length": 3, "prompt": np.array([[1]])}
    for search in (greedy_search, beam_search):
        run = quick(lambda state, search=search: search(step, state, **options))
        assert np.asarray(run(np.zeros((1, 1), "float32")).tokens).tolist() == [[[1, 3, 3]]]
    scored = sample(step, np.zeros((1, 1), "float32"), **options, score_prompt=True, top_p=0.5, seed=1)
    assert np.asarray(scored.tokens).tolist() == [[[1, 3, 3]]]


def test_a_scored_prompt_may_end():
    for search in (greedy_search, beam_search):
        decoded = run_model(search, MODEL, max_length=4, prompt=np.array([[3, EOS, 4]] * 3), score_prompt=True)
        assert [[each[1:] for each in hypotheses(decoded, row)] for row in range(3)] == [[((3, EOS), True)]] * 3


@pytest.mark.long
@pytest.mark.every_backend
def test_a_prompt_that_ends_is_refused_or_its_score_is_nan():
    call = {"bos_id": 1, "eos_id": EOS, "max_length": 4, "prompt_lengths": np.array([2, 1, 1], "int32")}
    wrong = np.array([[3, EOS], [3, EOS], [9, 3]], "int32")  # an end, one in the padding, a token outside
    with pytest.raises(ValueError, match=r"prompt\[0, 1\] is .*, which ends a hypothesis .* without add_eos"):
        next(stream(MODEL.step, MODEL.state, memory=MODEL.memory, prompt=wrong, **call))

    def decode(state, memory, prompt):
        return beam_search(MODEL.step, state, memory=memory, prompt=prompt, **call).scores

    scores = np.asarray(compiled(decode)(MODEL.state, MODEL.memory, wrong))
    assert np.isnan(scores[:, 0]).tolist() == [True, False, True]


@pytest.mark.long_on_jax
def test_rows_of_any_lengths_are_prompts():
    rows = [list(prompt) for prompt in PROMPTS]
    expected = run_model(greedy_search, MODEL, max_length=MAX_LENGTH, **PROMPT).tokens
    for prompt in (rows, [np.array(row, "int64") for row in rows], ragged(rows)):
        decoded = greedy_search(
            MODEL.step, MODEL.state, memory=MODEL.memory, bos_id=1, eos_id=EOS, max_length=MAX_LENGTH, prompt=prompt
        )
        np.testing.assert_array_equal(decoded.tokens, expected)


def ragged(rows):
    import tensorflow as tf

    return tf.ragged.constant(rows, dtype="int32")


def test_a_prompt_may_fill_max_length():
    for search in (greedy_search, beam_search):
        decoded = run_model(search, MODEL, max_length=2, **PROMPT)
        assert hypotheses(decoded, 0) == [(0.0, (3, 0), False)]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"prompt_lengths": np.array([1, 1, 1])}, "prompt_lengths were given without a prompt"),
        ({"prompt": np.zeros((3,), "int32")}, r"int32 \(batch, max_prompt\), but has shape \(3,\)"),
        ({"prompt": np.zeros((2, 1), "int32")}, "prompt has 2 rows, but the state has 3"),
        ({"prompt": COLUMNS, "prompt_lengths": np.array([0, 4, 0])}, r"between 0 and the prompt's 3 columns"),
        ({"prompt": COLUMNS}, r"prompt has tokens \[9\], outside the vocabulary of 5 classes"),
    ],
)
def test_says_what_is_wrong_with_a_prompt(prompt, message):
    with pytest.raises(ValueError, match=message):
        greedy_search(MODEL.step, MODEL.state, memory=MODEL.memory, bos_id=1, eos_id=EOS, max_length=3, **prompt)


def test_lengths_beyond_the_prompt_count_as_its_own_in_compiled_calls():
    def decode(state, memory, lengths):
        options = {"bos_id": 1, "eos_id": EOS, "max_length": 5, "prompt": np.full((3, 2), 3), "prompt_lengths": lengths}
        return greedy_search(MODEL.step, state, memory=memory, **options).tokens

    run, count = compiled(decode), np.full(3, 2, "int32")
    np.testing.assert_array_equal(run(MODEL.state, MODEL.memory, count + 2), run(MODEL.state, MODEL.memory, count))
