"""Greedy search against its twin, and on what can be drawn."""

import numpy as np
import pytest
from keras import ops

from kseq.decoding import greedy_search
from tests.decoding.models import EOS, IDS, Lattice, RandomRNN, assert_hypotheses, hypotheses, run, run_model
from tests.reference import decoding as reference


@pytest.mark.every_backend
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_slow_one(seed):
    model = RandomRNN(seed=seed, batch=5)
    decoded = run_model(greedy_search, model, max_length=6)
    for row in range(5):
        expected = reference.greedy_search(model.predict(row), EOS, 6)
        assert_hypotheses(decoded, row, [(expected.total, expected)])
        length = len(expected.tokens)
        alignments = np.stack([model.predict(row)(expected.tokens[:i])[1] for i in range(length)])
        got = np.asarray(decoded.alignments[row, 0])
        np.testing.assert_allclose(got[:length, : alignments.shape[1]], alignments, atol=1e-5)
        assert (got[length:] == 0).all()
        np.testing.assert_allclose(np.sum(decoded.log_probabilities[row, 0]), expected.total, atol=1e-5)


def test_spells_a_word():
    lattice = Lattice(
        {"": {"c": 0.9, "d": 0.1}, "c": {"a": 0.8, "o": 0.2}, "ca": {"t": 0.6, "$": 0.4}, "cat": {"$": 1}}
    )
    decoded = run(greedy_search, lattice.step, lattice.state, max_length=8, pad_id=-1)
    ((word, probability),) = lattice.spell(decoded)
    assert word == "cat$"
    assert probability == pytest.approx(0.9 * 0.8 * 0.6, rel=1e-4)
    assert np.asarray(decoded.tokens)[0, 0, 4:].tolist() == [-1] * 4
    assert np.asarray(decoded.finished).tolist() == [[True]]


def test_is_cut_at_max_length():
    lattice = Lattice({"": {"a": 1}, "a": {"b": 1}, "ab": {"$": 1}})
    decoded = run(greedy_search, lattice.step, lattice.state, max_length=2)
    assert hypotheses(decoded, 0) == [(0.0, (3, 4), False)]


def test_takes_the_lower_of_equal_tokens():
    def step(tokens, state):
        return ops.broadcast_to(np.array([0, 0, 0, 1, 1], "float32"), (ops.shape(tokens)[0], 5)), state

    decoded = run(greedy_search, step, np.zeros((2, 1)), max_length=3)
    assert np.asarray(decoded.tokens).tolist() == [[[3, 3, 3]], [[3, 3, 3]]]


def test_stops_when_every_row_has_ended():
    calls = []

    def step(tokens, state):
        calls.append(tokens.numpy().tolist())
        return ops.one_hot(ops.where(state >= tokens, tokens + 1, EOS), 9) * 9.0, state

    decoded = run(greedy_search, step, np.array([3, 5], "int32"), bos_id=0, eos_id=EOS, max_length=99)
    assert np.asarray(decoded.lengths).tolist() == [[2], [2]]
    assert len(calls) - 1 == 2


def counting(tokens, state):
    return ops.one_hot(tokens, 5), state


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"state": ()}, "takes the batch from the state, but the state is empty"),
        ({"state": np.float32(0)}, r"need the rows first, but they have shapes \[\(\)\]"),
        (
            {"step": lambda tokens, state: ops.one_hot(tokens, 5)},
            "must return .logits, state., .logits, state, alignments. or",
        ),
        ({"step": lambda tokens, state: (ops.one_hot(tokens, 5),) * 5}, "returned 5 values"),
        (
            {"step": lambda tokens, state: (ops.one_hot(tokens, 5)[:, None], state)},
            r"logits of shape \(rows, vocabulary\).*have shape \(2, 1, 5\)",
        ),
        (
            {"step": lambda tokens, state: (ops.one_hot(tokens, 5), state, ops.zeros((2, 1, 1)))},
            r"alignments of shape \(rows, source_time\), but they have shape \(2, 1, 1\)",
        ),
        (
            {"step": lambda tokens, state: (ops.one_hot(tokens, 5), [state, state])},
            "state with the structure, shapes and dtypes of the one it got",
        ),
        (
            {"step": lambda tokens, state: (ops.one_hot(tokens, 5), ops.cast(state, "int32"))},
            "state with the structure, shapes and dtypes of the one it got",
        ),
        ({"max_length": 0}, "max_length=0"),
        ({"min_length": 5}, "min_length=5 is more than max_length=4"),
        ({"eos_id": 7}, "eos_id=7 is outside the vocabulary"),
        ({"eos_id": (2, 8)}, "eos_id=8 is outside the vocabulary"),
        ({"eos_id": ()}, "eos_id must be a token or several, but got none"),
    ],
)
def test_says_what_is_wrong(arguments, message):
    usual = {"step": counting, "state": np.zeros((2, 1), "float32"), **IDS, "max_length": 4}
    with pytest.raises(ValueError, match=message):
        greedy_search(**{**usual, **arguments})


@pytest.mark.parametrize("step", ["model", None, dict], ids=str)
def test_a_step_can_be_called(step):
    with pytest.raises(TypeError, match=r"step must be a function such as model\.step, but is"):
        greedy_search(step, np.zeros((2, 1)), **IDS, max_length=4)
