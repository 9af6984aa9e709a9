"""Constraints: against every sequence that they allow."""

import itertools
from dataclasses import dataclass

import keras
import pytest
from keras import ops

from kseq.decoding import LOG_ZERO, BeamSearch, Constraint, SuppressedTokens, beam_search, greedy_search
from tests.decoding.models import EOS, RandomRNN, assert_hypotheses, hypotheses, run_model
from tests.reference import decoding as reference

MAX_LENGTH = 4
MODEL = RandomRNN(seed=21)


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
}


@pytest.mark.parametrize("name", ALLOWED)
def test_the_beam_finds_the_best_that_are_allowed(name):
    options, allowed = ALLOWED[name]
    decoded = run_model(beam_search, MODEL, max_length=MAX_LENGTH, beam_width=64, top_paths=10, **options)
    for row in range(2):
        best = reference.exhaustive_search(MODEL.predict(row), 5, EOS, MAX_LENGTH, 10, allowed)
        assert_hypotheses(decoded, row, best)


@pytest.mark.parametrize("name", ALLOWED)
def test_greedy_writes_only_what_is_allowed(name):
    options, allowed = ALLOWED[name]
    decoded = run_model(greedy_search, MODEL, max_length=MAX_LENGTH, **options)
    for row in range(2):
        ((_, tokens, _),) = hypotheses(decoded, row)
        assert allowed(tokens)


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
