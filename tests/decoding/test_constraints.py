"""Constraints: against every sequence that they allow."""

import itertools
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import ops

from kseq.decoding import LOG_ZERO, BeamSearch, Constraint, Prefix, SuppressedTokens, beam_search, greedy_search, sample
from kseq.decoding.constraints import (
    AllowedOutputs,
    FirstToken,
    FrequencyPenalty,
    LastToken,
    NoRepeatedNGram,
    RepetitionPenalty,
    RequiredPhrases,
)
from tests.decoding.models import EOS, RandomRNN, assert_hypotheses, hypotheses, run_model
from tests.reference import decoding as reference

MAX_LENGTH = 4
MODEL = RandomRNN(seed=21)
LISTED = [(), (3,), (3, 0), (0, 3, 4), (4, 4, 4, 4), (3, 1, 1), (1,)]  # the fifth has no room for its end


@keras.saving.register_keras_serializable(package="kseq_tests")
@dataclass(frozen=True)
class AtMost(Constraint):
    """Forbids tokens that a hypothesis has already written `times` times. It counts them in a state of its own."""

    times: int

    def initial_state(self, batch, vocabulary_size, max_length):
        return {"counts": ops.zeros((batch, vocabulary_size), dtype="int32")}

    def __call__(self, log_probabilities, prefix, state):
        written = ops.where(prefix.length > 0, ops.one_hot(prefix.last, log_probabilities.shape[-1], dtype="int32"), 0)
        counts = state["counts"] + written
        return ops.where(counts >= self.times, LOG_ZERO, log_probabilities), {"counts": counts}


@dataclass(frozen=True)
class NoPair(Constraint):
    """Forbids a token after itself anywhere in the prefix, which it reads from the prefix."""

    def __call__(self, log_probabilities, prefix, state):
        real = ops.arange(prefix.tokens.shape[-1]) < prefix.length
        repeated = ops.any(ops.logical_and(prefix.tokens == prefix.last[:, None], real), axis=-1)
        same = ops.one_hot(prefix.last, log_probabilities.shape[-1], dtype="bool")
        return ops.where(ops.logical_and(repeated[:, None], same), LOG_ZERO, log_probabilities), state


ALLOWED = {
    "min_length": ({"min_length": 3}, lambda tokens: len(tokens) >= 3),
    "min_length of max_length": ({"min_length": MAX_LENGTH}, lambda tokens: len(tokens) == MAX_LENGTH),
    "suppressed": ({"constraints": (SuppressedTokens((0, 3)),)}, lambda tokens: not {0, 3} & set(tokens)),
    "state": ({"constraints": (AtMost(1),)}, lambda tokens: len(set(tokens)) == len(tokens)),
    "prefix": (
        {"constraints": [NoPair()]},
        lambda tokens: all(a != b for a, b in itertools.pairwise(tokens)),
    ),
    "several": (
        {"min_length": 2, "constraints": (AtMost(2), SuppressedTokens([1]))},
        lambda tokens: len(tokens) >= 2 and 1 not in tokens and all(tokens.count(t) <= 2 for t in tokens),
    ),
    "listed": (
        {"constraints": (AllowedOutputs(LISTED),)},
        lambda tokens: tokens[-1] == EOS and tokens[:-1] in LISTED,
    ),
    "phrases": (
        {"constraints": (RequiredPhrases([(3, 4), (4, 0)]),)},  # which may overlap
        lambda tokens: {(3, 4), (4, 0)} <= set(itertools.pairwise(tokens)),
    ),
    "a phrase in another": (
        {"constraints": (RequiredPhrases([(3, 3, 0), (3, 0), (1,)]),)},
        lambda tokens: tokens in [(1, 3, 3, 0), (3, 3, 0, 1)],
    ),
    "a phrase and an end": (
        {"constraints": (RequiredPhrases([(3,)]), LastToken())},
        lambda tokens: 3 in tokens and tokens[-1] == EOS,
    ),
    "a last token and a phrase": (
        {"constraints": (LastToken(4), RequiredPhrases([(3,)]))},
        lambda tokens: 3 in tokens and tokens[-2:] == (4, EOS),
    ),
    "no word twice": (
        {"constraints": (NoRepeatedNGram(1),)},
        lambda tokens: len(set(tokens)) == len(tokens),
    ),
    "no pair twice": (
        {"constraints": (NoRepeatedNGram(2),)},
        lambda tokens: len(set(itertools.pairwise(tokens))) == len(tokens) - 1,
    ),
    "n-grams that cannot be": ({"constraints": (NoRepeatedNGram(6),)}, lambda tokens: True),
    "first": ({"constraints": (FirstToken((3, 4)),)}, lambda tokens: tokens[0] in (3, 4)),
    "end": ({"constraints": (LastToken(),)}, lambda tokens: tokens[-1] == EOS),
    "last": ({"constraints": (LastToken(4),)}, lambda tokens: tokens[-2:] == (4, EOS)),
}


def repetition(counts):
    return lambda log_probabilities: np.where(counts > 0, 1.7, 1.0) * log_probabilities


def frequency(counts):
    return lambda log_probabilities: log_probabilities - 0.5 * counts - 0.3 * (counts > 0)


PENALTIES = {"repetition": (RepetitionPenalty(1.7), repetition), "frequency": (FrequencyPenalty(0.5, 0.3), frequency)}


def penalised(predict, penalty):
    """A model's log-probabilities of the next token, lowered by how often the prefix holds each."""

    def predict_penalised(prefix):
        log_probabilities, alignments = predict(prefix)
        return penalty(np.bincount(prefix, minlength=5))(log_probabilities), alignments

    return predict_penalised


def every_hypothesis(name, row, count=10):
    """The best `count` hypotheses of all that there are under a constraint."""
    predict = MODEL.predict(row)
    if name in PENALTIES:
        return reference.exhaustive_search(penalised(predict, PENALTIES[name][1]), 5, EOS, MAX_LENGTH, count)
    return reference.exhaustive_search(predict, 5, EOS, MAX_LENGTH, count, ALLOWED[name][1])


def options_of(name):
    return {"constraints": (PENALTIES[name][0],)} if name in PENALTIES else ALLOWED[name][0]


NAMES = [*ALLOWED, *PENALTIES]


@pytest.mark.parametrize("name", NAMES)
def test_the_beam_finds_the_best_that_are_allowed(name):
    decoded = run_model(beam_search, MODEL, max_length=MAX_LENGTH, beam_width=64, top_paths=10, **options_of(name))
    for row in range(2):
        best = every_hypothesis(name, row)
        assert len(best) == 10 or name in ("listed", "phrases", "a phrase in another", "a last token and a phrase")
        nothing = [(LOG_ZERO, reference.Hypothesis((), LOG_ZERO, False, 0.0))] * (10 - len(best))
        assert_hypotheses(decoded, row, best + nothing)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("search", [greedy_search, sample])
def test_greedy_and_samples_write_only_what_is_allowed(name, search):
    drawn = {"num_samples": 30, "temperature": 3.0, "seed": 5} if search is sample else {}
    decoded = run_model(search, MODEL, max_length=MAX_LENGTH, **options_of(name), **drawn)
    for row in range(2):
        scores = {h.tokens: score for score, h in every_hypothesis(name, row, count=None)}
        for score, tokens, finished in hypotheses(decoded, row):
            assert score == pytest.approx(scores[tokens], abs=1e-5)
            assert finished == (tokens[-1] == EOS)
        if search is sample and name != "a phrase in another":
            assert len({tokens for _, tokens, _ in hypotheses(decoded, row)}) > 2


def test_nothing_allowed_gives_no_hypothesis():
    decoded = run_model(beam_search, MODEL, max_length=3, beam_width=2, constraints=(SuppressedTokens(range(5)),))
    assert hypotheses(decoded, 0) == [(pytest.approx(-1e30), (), False)]


def test_suppressed_tokens_must_be_in_the_vocabulary():
    with pytest.raises(ValueError, match=r"tokens=\[9\], outside the vocabulary of 5 classes"):
        run_model(greedy_search, MODEL, max_length=3, constraints=(SuppressedTokens((1, 9)),))


def test_a_users_constraint_is_saved_with_its_strategy():
    strategy = BeamSearch(beam_width=3, constraints=(AtMost(2), SuppressedTokens((1, 3))))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(strategy))
    assert again == strategy


@pytest.mark.long
def test_a_prompt_counts_as_written():
    prompt = {"prompt": np.array([[3, 4], [4, 0]]), "max_length": MAX_LENGTH}
    decoded = run_model(greedy_search, MODEL, constraints=(AllowedOutputs([(3, 4, 1), (0,)]),), **prompt)
    assert hypotheses(decoded, 0)[0][1:] == ((3, 4, 1, EOS), True)
    assert hypotheses(decoded, 1)[0][0] < LOG_ZERO / 2  # begins no listed output
    decoded = run_model(greedy_search, MODEL, constraints=(RequiredPhrases([(4, 0), (3, 3)]),), **prompt)
    assert hypotheses(decoded, 1)[0][1:] == ((4, 0, 3, 3), False)
    assert not hypotheses(decoded, 0)[0][2]  # no room for both: cut, not finished
    decoded = run_model(sample, MODEL, constraints=(NoRepeatedNGram(1),), num_samples=20, seed=0, **prompt)
    for row in range(2):
        assert all(len(set(tokens)) == len(tokens) for _, tokens, _ in hypotheses(decoded, row))


@pytest.mark.long
def test_a_list_of_many_words():
    """Against Python's own search in the list."""
    random = np.random.default_rng(0)
    words = {tuple(random.integers(3, 40, size=random.integers(1, 9)).tolist()) for _ in range(3000)}
    model = RandomRNN(seed=1, vocabulary=40, batch=8)
    options = {"constraints": (AllowedOutputs(words),), "max_length": 7, "num_samples": 16, "seed": 2}
    decoded = run_model(sample, model, temperature=2.0, **options)
    for row in range(8):
        for _, tokens, finished in hypotheses(decoded, row):
            assert finished
            assert tokens[:-1] in words


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RepetitionPenalty(0.9), "penalty=0.9 must be 1 or more.* would raise"),
        (lambda: RepetitionPenalty(np.inf), r"penalty must be a finite .* penalty=inf.*NoRepeatedNGram\(1\) forbids"),
        (lambda: FrequencyPenalty(-1.0), "frequency=-1.0 and presence=0.0 must be 0 or more"),
        (
            lambda: FrequencyPenalty(np.inf),
            r"frequency must be a finite.*NoRepeatedNGram",
        ),
        (lambda: FrequencyPenalty(0.1, np.nan), "presence must be a finite number, but got presence=nan"),
        (lambda: NoRepeatedNGram(0), "size must be 1 token or more, but got size=0"),
        (lambda: FirstToken(()), "needs a token or several, but got none"),
        (lambda: AllowedOutputs([]), "needs an output or several, but got none"),
        (
            lambda: RequiredPhrases([(1,), ()]),
            r"1 to 10 phrases of one token or more, but got 2, of the lengths \[1, 0\]",
        ),
    ],
)
def test_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (AllowedOutputs([(3, 7)]), r"AllowedOutputs got tokens=\[7\], outside the vocabulary of 5 classes"),
        (AllowedOutputs([(3, EOS)]), r"outputs with the tokens \[2\], which end a hypothesis"),
        (RequiredPhrases([(3, EOS)]), r"phrases with the tokens \[2\], which end a hypothesis"),
        (RequiredPhrases([(3, 3), (4, 4)]), "take 4 tokens or more, but max_length=3"),
        (LastToken(5), r"LastToken got tokens=\[5\]"),
        (FirstToken(-1), r"FirstToken got tokens=\[-1\]"),
    ],
)
def test_says_what_does_not_go_with_the_model(constraint, message):
    with pytest.raises(ValueError, match=message):
        run_model(greedy_search, MODEL, max_length=3, constraints=(constraint,))


@pytest.mark.parametrize(("last", "reserved"), [(LastToken(), 1), (LastToken(4), 2)])
def test_phrases_need_room_before_the_last_token(last, reserved):
    phrases = RequiredPhrases([(3,) * (4 - reserved)])
    run_model(greedy_search, MODEL, max_length=4, constraints=(phrases, last))
    message = f"take {4 - reserved} tokens or more, but max_length=3, of which LastToken fills the last {reserved}"
    with pytest.raises(ValueError, match=message):
        run_model(greedy_search, MODEL, max_length=3, constraints=(phrases, last))


def test_a_row_that_has_ended_forbids_nothing_in_another():
    """Its pad is outside the vocabulary: -1 would be the last token of the row before."""
    constraint = NoRepeatedNGram(1)
    prefix = Prefix(np.array([[0, 1, 0, 0], [2, -1, -1, 0]], "int32"), np.array([0, 2], "int32"), 3, (2,))
    values, _ = constraint(np.zeros((2, 5), "float32"), prefix, ())
    np.testing.assert_array_equal(
        np.asarray(values) == 0, [[False, False, True, True, True], [True, True, False, True, True]]
    )


def test_only_nothing_may_be_listed():
    decoded = greedy_search(
        lambda tokens, state: (ops.one_hot(tokens, 5), state),
        np.zeros((1, 1), "float32"),
        bos_id=1,
        eos_id=2,
        max_length=3,
        constraints=(AllowedOutputs([[]]),),
    )
    np.testing.assert_array_equal(decoded.tokens, [[[2, 0, 0]]])


@dataclass(frozen=True)
class NotThree:
    """A constraint of a user's own that derives from nothing, with a field named as one of `Prefix` is."""

    reserved: int = 3

    def initial_state(self, batch, vocabulary_size, max_length):
        return ()

    def __call__(self, log_probabilities, prefix, state):
        return ops.where(ops.arange(log_probabilities.shape[-1]) == self.reserved, LOG_ZERO, log_probabilities), state


def test_a_constraint_need_not_derive_from_ours():
    options = {"max_length": MAX_LENGTH, "beam_width": 4**3, "top_paths": 8}
    duck = run_model(beam_search, MODEL, constraints=(NotThree(), RequiredPhrases([(4,)])), **options)
    ours = run_model(beam_search, MODEL, constraints=(SuppressedTokens((3,)), RequiredPhrases([(4,)])), **options)
    np.testing.assert_array_equal(duck.tokens, ours.tokens)
    np.testing.assert_array_equal(duck.scores, ours.scores)
