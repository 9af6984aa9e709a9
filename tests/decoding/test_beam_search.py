"""Beam search: against every sequence, against a slow beam, and on lattices drawn by hand."""

import itertools
import re

import numpy as np
import pytest
from keras import ops

from kseq.decoding import BeamSearch, MinimumLength, beam_search, greedy_search
from tests.decoding.models import BOS, EOS, IDS, Lattice, RandomRNN, assert_hypotheses, hypotheses, run, run_model
from tests.reference import decoding as reference

MAX_LENGTH = 5
NOTHING = reference.Hypothesis((), 0.0, False, 0.0)
WIDE = 4 ** (MAX_LENGTH - 1)  # vocabulary 5: nothing that is alive is ever dropped before the last step


def wide(model, **options):
    return run_model(beam_search, model, beam_width=WIDE, max_length=MAX_LENGTH, **options)


@pytest.fixture(scope="module")
def rnn():
    return RandomRNN(seed=11)


@pytest.mark.parametrize(
    ("kind", "exponent", "early_stopping"),
    [
        *itertools.product(["gnmt", "average"], [-1.0, 0.0, 0.7], [True]),
        *itertools.product(["average"], [-1.0, 0.7], [False, "never"]),
    ],
)
def test_a_wide_beam_finds_the_true_best(rnn, kind, exponent, early_stopping):
    options = {"length_penalty": exponent, "length_penalty_kind": kind, "early_stopping": early_stopping}
    decoded = wide(rnn, top_paths=12, **options)
    for row in range(2):
        best = reference.exhaustive_search(rnn.predict(row), 5, EOS, MAX_LENGTH, 12, exponent=exponent, kind=kind)
        assert_hypotheses(decoded, row, best)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "early_stopping"), [("gnmt", True), ("average", "never")])
def test_a_wide_beam_finds_the_true_best_of_six_tokens(rnn, kind, early_stopping):
    options = {"length_penalty": 0.7, "length_penalty_kind": kind, "early_stopping": early_stopping}
    decoded = run_model(beam_search, rnn, beam_width=4**5, max_length=6, top_paths=30, **options)
    for row in range(2):
        best = reference.exhaustive_search(rnn.predict(row), 5, EOS, 6, 30, exponent=0.7, kind=kind)
        assert_hypotheses(decoded, row, best)


def test_a_wide_beam_finds_the_true_best_with_a_coverage_penalty(rnn):
    decoded = wide(rnn, top_paths=8, length_penalty=0.6, coverage_penalty=0.4)
    for row in range(2):
        scoring = {"exponent": 0.6, "coverage_penalty": 0.4}
        best = reference.exhaustive_search(rnn.predict(row), 5, EOS, MAX_LENGTH, 8, **scoring)
        assert_hypotheses(decoded, row, best)


class HardRNN(RandomRNN):
    """One that looks at one source position at a time."""

    def step(self, tokens, state, memory):
        output = super().step(tokens, state, memory)
        return output._replace(alignments=ops.one_hot(ops.argmax(output.alignments, axis=-1), 4))

    def predict(self, row):
        soft = super().predict(row)

        def hard(prefix):
            log_probabilities, weights = soft(prefix)
            return log_probabilities, np.eye(len(weights))[np.argmax(weights)]

        return hard


@pytest.mark.long
@pytest.mark.parametrize("early_stopping", [True, "never"])
@pytest.mark.parametrize("counted", [[0, 1, 2, 3], [0, 2, 3]])
def test_positions_that_no_hypothesis_looked_at_are_not_covered(early_stopping, counted):
    model = HardRNN(seed=11)
    options = {"length_penalty": 0.6, "coverage_penalty": 0.05, "early_stopping": early_stopping, "top_paths": 8}
    decoded = wide(model, source_mask=model.memory["mask"] & np.isin(range(4), counted), **options)
    for row in range(2):

        def predict(prefix, row=row):
            log_probabilities, weights = model.predict(row)(prefix)
            return log_probabilities, weights[[j for j in counted if j < len(weights)]]

        scoring = {"exponent": 0.6, "coverage_penalty": 0.05}
        best = reference.exhaustive_search(predict, 5, EOS, MAX_LENGTH, 8, **scoring)
        assert_hypotheses(decoded, row, best)
    without = wide(model, **options)
    assert (np.asarray(without.tokens) != np.asarray(decoded.tokens)).any()  # an early end that skips a position


def test_what_is_returned_belongs_together(rnn):
    decoded = run_model(beam_search, rnn, max_length=MAX_LENGTH, beam_width=6, top_paths=6, coverage_penalty=0.2)
    scores = np.asarray(decoded.scores)
    assert (np.diff(scores) <= 0).all()
    for row in range(2):
        predict = rnn.predict(row)
        for place, (_, tokens, _) in enumerate(hypotheses(decoded, row)):
            length = len(tokens)
            log_probabilities = [predict(tokens[:i])[0][token] for i, token in enumerate(tokens)]
            alignments = np.stack([predict(tokens[:i])[1] for i in range(length)])
            np.testing.assert_allclose(decoded.log_probabilities[row, place, :length], log_probabilities, atol=1e-5)
            np.testing.assert_allclose(
                decoded.alignments[row, place, :length, : alignments.shape[1]], alignments, atol=1e-5
            )
            assert (np.asarray(decoded.tokens[row, place, length:]) == 0).all()
            assert (np.asarray(decoded.log_probabilities[row, place, length:]) == 0).all()
            assert (np.asarray(decoded.alignments[row, place, length:]) == 0).all()


@pytest.mark.long_on_jax("3-1.0")
@pytest.mark.parametrize(("beam_width", "exponent"), [(1, 1.0), (2, 0.0), (3, 1.0), (5, 0.0)])
def test_a_narrow_beam_equals_the_slow_one(beam_width, exponent):
    model = RandomRNN(seed=3, batch=6)
    scoring = {"length_penalty": exponent, "length_penalty_kind": "average"}
    decoded = run_model(
        beam_search, model, max_length=MAX_LENGTH, beam_width=beam_width, top_paths=beam_width, **scoring
    )
    for row in range(6):
        scoring = {"exponent": exponent, "kind": "average"}
        best = reference.beam_search(model.predict(row), 5, EOS, MAX_LENGTH, beam_width, beam_width, **scoring)
        assert_hypotheses(decoded, row, best)


@pytest.mark.parametrize("early_stopping", [True, False])
def test_with_several_ends_a_wide_beam_finds_the_true_best(rnn, early_stopping):
    ends, options = (4, EOS), {"length_penalty": 0.7, "early_stopping": early_stopping}
    decoded = run_model(beam_search, rnn, max_length=4, beam_width=27, top_paths=12, eos_id=ends, **options)
    for row in range(2):
        best = reference.exhaustive_search(rnn.predict(row), 5, ends, 4, 12, exponent=0.7)
        assert_hypotheses(decoded, row, best)


@pytest.mark.parametrize(
    ("beam_width", "ends", "patience", "exponent"),
    [(2, (0, EOS), None, 0.0), (3, (EOS, 4), None, 1.0), (3, EOS, 1.0, 0.0), (2, EOS, 0.5, 1.0), (3, (0, 4), 1.5, 1.0)],
)
def test_a_narrow_beam_with_several_ends_or_patience_equals_the_slow_one(beam_width, ends, patience, exponent):
    model = RandomRNN(seed=4, batch=6)
    decoded = run_model(
        beam_search,
        model,
        max_length=MAX_LENGTH,
        beam_width=beam_width,
        top_paths=beam_width,
        eos_id=ends,
        patience=patience,
        length_penalty=exponent,
        early_stopping="never" if patience else True,
    )
    limit = {"patience": patience or np.inf, "exponent": exponent}
    for row in range(6):
        arguments = (model.predict(row), 5, ends, MAX_LENGTH, beam_width, beam_width)
        best = reference.beam_search(*arguments, **limit)
        assert_hypotheses(decoded, row, best + [(-1e30, NOTHING)] * (beam_width - len(best)), atol=2e-5)


@pytest.mark.parametrize(
    ("beam_width", "margin", "exponent", "early_stopping"),
    [(4, 0.5, 0.0, True), (4, 1.5, 1.0, False), (3, 0.05, 0.7, "never"), (5, 1.0, 0.0, "estimate")],
)
def test_a_beam_pruned_by_score_margin_equals_the_slow_one(beam_width, margin, exponent, early_stopping):
    model = RandomRNN(seed=4, batch=6)
    options = {"max_length": MAX_LENGTH, "beam_width": beam_width, "top_paths": beam_width}
    options |= {"length_penalty": exponent, "early_stopping": early_stopping}
    decoded = run_model(beam_search, model, score_margin=margin, **options)
    for row in range(6):
        arguments = (model.predict(row), 5, EOS, MAX_LENGTH, beam_width, beam_width)
        best = reference.beam_search(*arguments, margin=margin, exponent=exponent)
        count = beam_width if early_stopping in ("never", False) else 1  # the others may leave earlier ends out
        got, best = hypotheses(decoded, row), best + [(-1e30, NOTHING)] * (beam_width - len(best))
        assert [(tokens, end) for _, tokens, end in got[:count]] == [(h.tokens, h.finished) for _, h in best[:count]]
        np.testing.assert_allclose([x for x, _, _ in got[:count]], [x for x, _ in best[:count]], atol=2e-5)
    free = run_model(beam_search, model, **options)
    assert (np.asarray(free.tokens) != np.asarray(decoded.tokens)).any()


@pytest.mark.long
@pytest.mark.long_on_jax
def test_score_margin_drops_what_would_have_won_in_a_row_alone_as_in_a_batch():
    # Token 4 is 0.3 nats below token 3 in the first row, and wins in the end. In the second both are equal, and far
    # below the first row's.
    first_step = np.log(np.array([[1e-9, 0.5, 0.5 * np.exp(-0.3)], [0.5, 0.25, 0.25]]), dtype="float32")

    def step(tokens, state):
        row, position = state[:, 0], state[:, 1]
        first = ops.pad(ops.take(first_step, row, axis=0), [(0, 0), (2, 0)], constant_values=-1e9)
        then = ops.where((tokens == 4)[:, None], np.log([1e-9, 1e-9, 0.9, 0.1, 1e-9]), np.log([0.2] * 5))
        logits = ops.where((position == 0)[:, None], first, ops.cast(then, "float32"))
        return logits, ops.stack([row, position + 1], axis=1)

    state = np.array([[0, 0], [1, 0]], "int32")
    options, first = {"max_length": 3, "min_length": 2, "beam_width": 2, "early_stopping": "never"}, {}
    for margin in (0.2, 0.4, None):
        together = run(beam_search, step, state, score_margin=margin, **options)
        for row in range(2):
            alone = run(beam_search, step, state[row : row + 1], score_margin=margin, **options)
            np.testing.assert_array_equal(alone.tokens[0], together.tokens[row])
            np.testing.assert_array_equal(alone.scores[0], together.scores[row])
        first[margin] = np.asarray(together.tokens)[:, 0, 0].tolist()
    assert first == {0.2: [3, 4], 0.4: [4, 4], None: [4, 4]}


def test_score_margin_is_saved():
    strategy = BeamSearch(score_margin=1.5)
    assert strategy.get_config()["score_margin"] == 1.5
    assert BeamSearch.from_config(strategy.get_config()) == strategy
    old = {name: value for name, value in strategy.get_config().items() if name != "score_margin"}
    assert BeamSearch.from_config(old) == BeamSearch()  # a configuration of an earlier version


def test_patience_gives_up_what_would_have_won():
    options = {"length_penalty": 1.0, "length_penalty_kind": "average", "beam_width": 2}
    assert_words(search(LONG_WINS, patience=0.5, **options), [("a$", (0.51 * 0.99) ** 0.5)])
    assert_words(search(LONG_WINS, patience=5.0, **options), [("bcde$", (0.49 * 0.9) ** 0.2)])


@pytest.mark.every_backend
@pytest.mark.parametrize("beam_width", [2, 3])
def test_ties_go_to_the_lower_hypothesis_and_token(beam_width):
    # Few different logits, so that nearly every choice is a tie, and the very same float32 sums in both.
    batch = 8
    logits = np.random.default_rng(0).integers(0, 2, size=(batch, MAX_LENGTH, 5, 5)).astype("float32")
    log_probabilities = np.asarray(ops.log_softmax(logits))

    def step(tokens, state):
        return ops.take(logits.reshape(-1, 5), state * 5 + tokens, axis=0), state + 1

    start = np.arange(batch, dtype="int32") * MAX_LENGTH
    decoded = run(beam_search, step, start, max_length=MAX_LENGTH, beam_width=beam_width, top_paths=beam_width)
    for row in range(batch):
        best = reference.beam_search(
            lambda prefix, row=row: (log_probabilities[row, len(prefix), prefix[-1] if prefix else BOS], None),
            *(5, EOS, MAX_LENGTH, beam_width, beam_width),
        )
        assert_hypotheses(decoded, row, best, atol=0)


def test_all_equal_gives_the_lowest_tokens():
    def step(tokens, state):
        return ops.zeros((ops.shape(tokens)[0], 5)), state

    decoded = run(beam_search, step, np.zeros((1, 1)), max_length=2, beam_width=4, top_paths=4, min_length=2)
    # Of (hypothesis, token): what ended goes before what was cut, and below that the lower one.
    assert [tokens for _, tokens, _ in hypotheses(decoded, 0)] == [(0, 2), (0, 0), (0, 1), (0, 3)]


GREEDY_FAILS = Lattice(
    {
        "": {"a": 0.6, "b": 0.4},
        "a": {"c": 0.5, "d": 0.3, "$": 0.2},
        "ac": {"$": 1.0},
        "ad": {"$": 1.0},
        "b": {"e": 0.9, "$": 0.1},
        "be": {"$": 1.0},
    }
)


def search(lattice, **options):
    return lattice.spell(run(beam_search, lattice.step, lattice.state, **{"max_length": 6, **options}))


def assert_words(words, expected):
    assert [word for word, _ in words] == [word for word, _ in expected]
    np.testing.assert_allclose([p for _, p in words], [p for _, p in expected], rtol=1e-4)


def test_the_beam_wins_where_greedy_fails():
    greedy = run(greedy_search, GREEDY_FAILS.step, GREEDY_FAILS.state, max_length=6)
    assert_words(GREEDY_FAILS.spell(greedy), [("ac$", 0.3)])
    words = search(GREEDY_FAILS, beam_width=3, top_paths=3)
    assert_words(words, [("be$", 0.36), ("ac$", 0.3), ("ad$", 0.18)])


@pytest.mark.parametrize("seed", range(3))
def test_a_beam_of_one_is_greedy(seed):
    model = RandomRNN(seed=seed, batch=4)
    beam = run_model(beam_search, model, max_length=MAX_LENGTH, beam_width=1)
    greedy = run_model(greedy_search, model, max_length=MAX_LENGTH)
    for got, expected in zip(beam, greedy, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_an_early_second_best_end_keeps_its_rank():
    lattice = Lattice({"": {"a": 0.7, "$": 0.3}, "a": {"b": 0.9, "c": 0.1}, "ab": {"$": 1.0}, "ac": {"$": 1.0}})
    for early_stopping in (True, False, "never"):
        words = search(lattice, beam_width=3, top_paths=3, early_stopping=early_stopping)
        assert_words(words, [("ab$", 0.63), ("$", 0.3), ("ac$", 0.07)])


def test_what_has_ended_is_not_cut_when_its_slot_is_used_again():
    lattice = Lattice(
        {
            "": {"a": 0.55, "b": 0.45},
            "a": {"b": 0.9, "c": 0.1},
            "ab": {"$": 0.9, "d": 0.1},
            "ac": {"$": 1.0},
            "abd": {"$": 1.0},
            "b": {"a": 1.0},
            "ba": {"d": 1.0},
            "bad": {"e": 1.0},
            "bade": {"$": 1.0},
        }
    )
    words = search(lattice, beam_width=2, top_paths=2, early_stopping="never")
    assert_words(words, [("bade$", 0.45), ("ab$", 0.55 * 0.9 * 0.9)])


LONG_WINS = Lattice(
    {
        "": {"a": 0.51, "b": 0.49},
        "a": {"$": 0.99, "c": 0.01},
        "ac": {"$": 1.0},
        "b": {"c": 0.9, "$": 0.1},
        "bc": {"d": 1.0},
        "bcd": {"e": 1.0},
        "bcde": {"$": 1.0},
    }
)


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("beam_width", [2, 3])
def test_with_a_length_penalty_the_first_to_end_does_not_stop_the_search(early_stopping, beam_width):
    options = {"length_penalty": 1.0, "length_penalty_kind": "average", "early_stopping": early_stopping}
    ((word, probability),) = search(LONG_WINS, beam_width=beam_width, **options)
    assert word == "bcde$"
    assert probability == pytest.approx((0.49 * 0.9) ** (1 / 5), rel=1e-4)


@pytest.mark.parametrize("early_stopping", [True, False])
def test_with_a_negative_length_penalty_a_live_hypothesis_may_still_win_by_ending_soon(early_stopping):
    lattice = Lattice({"": {"a": 0.37, "b": 0.63}, "a": {"$": 1.0}, "b": {"c": 1.0}, "bc": {"$": 1.0}})
    options = {"length_penalty": -1.0, "length_penalty_kind": "average", "early_stopping": early_stopping}
    assert_words(search(lattice, beam_width=2, **options), [("bc$", 0.63**3)])


def test_estimate_may_miss_a_long_hypothesis_by_design():
    lattice = Lattice({"": {"a": 0.6, "b": 0.4}, "a": {"$": 1.0}, "b": {"c": 1.0}, "bc": {"d": 1.0}, "bcd": {"$": 1.0}})
    options = {"beam_width": 1, "length_penalty": 1.0, "length_penalty_kind": "average"}
    assert_words(search(lattice, early_stopping="estimate", **options), [("a$", 0.6**0.5)])
    options["beam_width"] = 2
    assert_words(search(lattice, **options), [("bcd$", 0.4**0.25)])


def test_spells_words_best_first():
    lattice = Lattice(
        {
            "": {"c": 0.9, "d": 0.1},
            "c": {"a": 0.8, "o": 0.2},
            "ca": {"t": 0.5, "r": 0.4, "$": 0.1},
            "cat": {"$": 1.0},
            "car": {"$": 0.75, "t": 0.25},
            "cart": {"$": 1.0},
            "co": {"t": 1.0},
            "cot": {"$": 1.0},
            "d": {"o": 1.0},
            "do": {"$": 1.0},
        }
    )
    words = search(lattice, beam_width=8, top_paths=7, early_stopping="never")
    expected = {"cat$": 0.36, "car$": 0.216, "cot$": 0.18, "do$": 0.1, "ca$": 0.072, "cart$": 0.072}
    got = dict(words[:6])
    assert [word for word, _ in words[:4]] == ["cat$", "car$", "cot$", "do$"]
    assert set(got) == set(expected)
    np.testing.assert_allclose([got[word] for word in expected], list(expected.values()), rtol=1e-4)


def test_what_reaches_max_length_is_kept_and_flagged():
    decoded = run(beam_search, GREEDY_FAILS.step, GREEDY_FAILS.state, max_length=2, beam_width=4, top_paths=4)
    assert [(f, len(t)) for _, t, f in hypotheses(decoded, 0)] == [(False, 2), (False, 2), (False, 2), (True, 2)]
    words = GREEDY_FAILS.spell(decoded)
    assert_words(words, [("be", 0.36), ("ac", 0.3), ("ad", 0.18), ("a$", 0.12)])


def test_tokens_after_the_end_are_pad():
    decoded = run(beam_search, GREEDY_FAILS.step, GREEDY_FAILS.state, max_length=5, pad_id=-1)
    assert np.asarray(decoded.tokens).tolist() == [[[4, 7, EOS, -1, -1]]]


def test_a_beam_wider_than_what_can_be_written():
    def step(tokens, state):
        return ops.zeros((ops.shape(tokens)[0], 3)), state

    decoded = run(beam_search, step, np.zeros((1, 1)), max_length=1, beam_width=8, top_paths=5)
    assert np.asarray(decoded.lengths).tolist() == [[1, 1, 1, 0, 0]]
    assert np.asarray(decoded.finished).tolist() == [[True, False, False, False, False]]
    assert (np.asarray(decoded.scores[0, 3:]) == np.float32(-1e30)).all()
    assert np.asarray(decoded.tokens)[0, :, 0].tolist() == [EOS, 0, 1, 0, 0]


def in_half(rnn, dtype, *, rounded=False):
    """Its step with logits and alignments in half precision, or rounded to it but in float32."""

    def cast(x):
        return ops.cast(ops.cast(x, dtype), "float32" if rounded else dtype)

    def step(tokens, state, memory):
        logits, state, alignments, _ = rnn.step(tokens, state, memory)
        return cast(logits), state, cast(alignments)

    return step


@pytest.mark.long
@pytest.mark.long_on_jax
@pytest.mark.parametrize(("dtype", "gap"), [("float16", 1e-2), ("bfloat16", 6e-2)])  # 8 bits: its logits are that far
def test_half_precision_ranks_as_float32(rnn, dtype, gap):
    options = {"memory": rnn.memory, "max_length": MAX_LENGTH, "beam_width": WIDE, "top_paths": WIDE}
    full = run(beam_search, rnn.step, rnn.state, **options)
    half = run(beam_search, in_half(rnn, dtype), rnn.state, **options)
    for row in range(2):
        truth = {tokens: value for value, tokens, _ in hypotheses(full, row)}
        ranked = [tokens for _, tokens, _ in hypotheses(half, row)]
        worst = min(truth.values())
        values = np.array([truth.get(tokens, worst) for tokens in ranked])
        assert (values <= np.minimum.accumulate(values) + gap).all()  # only what differs by less may change places
        assert {tokens for tokens, value in truth.items() if value > worst + gap} <= set(ranked)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_scores_of_half_precision_are_in_float32(rnn, dtype):
    options = {"memory": rnn.memory, "max_length": MAX_LENGTH, "beam_width": WIDE, "top_paths": WIDE}
    half, rounded = (
        run(beam_search, in_half(rnn, dtype, rounded=x), rnn.state, coverage_penalty=0.1, **options)
        for x in (False, True)
    )
    np.testing.assert_array_equal(half.tokens, rounded.tokens)
    np.testing.assert_allclose(half.scores, rounded.scores, atol=1e-6)


def test_logits_of_minus_infinity_forbid():
    def step(tokens, state):
        logits = np.array([0.0, -np.inf, 1.0, -np.inf], "float32")
        return ops.broadcast_to(logits, (ops.shape(tokens)[0], 4)), state

    decoded = run(beam_search, step, np.zeros((1, 1)), max_length=3, beam_width=4, top_paths=4, min_length=2)
    assert [tokens for _, tokens, _ in hypotheses(decoded, 0)] == [(0, 2), (0, 0, 2), (0, 0, 0), ()]
    assert np.isfinite(np.asarray(decoded.scores)).all()


def test_nests_of_state_follow_their_hypotheses_and_memory_stays():
    seen = []

    def step(tokens, state, memory):
        seen.append(tuple(memory["table"].shape))
        history = state["history"] * 10 + ops.cast(tokens, "float32")  # what was written, as a number
        table = ops.repeat(memory["table"], ops.shape(tokens)[0] // 2, axis=0)
        logits = table + 3.0 * ops.sin(history)[:, None] * np.arange(5, dtype="float32")
        return logits, {"history": history, "nested": [state["nested"][0] + 1]}, history[:, None]

    state = {"history": np.zeros(2, "float32"), "nested": (np.zeros((2, 3), "int32"),)}
    memory = {"table": np.random.default_rng(0).normal(size=(2, 5)).astype("float32")}
    decoded = run(beam_search, step, state, memory=memory, max_length=4, beam_width=3, top_paths=3)
    assert set(seen) == {(2, 5)}
    for row in range(2):
        for place, (_, tokens, _) in enumerate(hypotheses(decoded, row)):
            written = [int("1" + "".join(map(str, tokens[:i]))) for i in range(len(tokens))]
            np.testing.assert_array_equal(decoded.alignments[row, place, : len(tokens), 0], written)


@pytest.mark.parametrize(("early_stopping", "steps"), [(True, 1), (False, 2), ("never", 8)])
def test_stops_when_every_row_is_done(early_stopping, steps):
    calls = []

    def step(tokens, state):
        calls.append(1)
        logits = ops.log(np.array([0.004, 1e-30, 0.99, 0.003, 0.003], "float32"))
        return ops.broadcast_to(logits, (tokens.shape[0], 5)), state

    beam_search(step, np.zeros((2, 1)), **IDS, max_length=8, beam_width=2, early_stopping=early_stopping)
    assert len(calls) - 1 == steps


@pytest.mark.long
def test_rows_that_are_done_wait_unchanged(rnn):
    # One row ends at once; the other goes on to the end.
    def step(tokens, state):
        ends = ops.equal(state[:, :1], 1.0)
        return ops.where(ends, ops.one_hot(2, 5) * 20.0, ops.one_hot(tokens * 0 + 3, 5) * 5.0), state

    options = {**IDS, "max_length": 12, "beam_width": 3, "top_paths": 3, "length_penalty": 1.0}
    for early_stopping in (True, "estimate"):
        state = np.array([[1.0], [0.0]], "float32")
        together = run(beam_search, step, state, early_stopping=early_stopping, **options)
        for row in range(2):
            alone = run(beam_search, step, state[row : row + 1], early_stopping=early_stopping, **options)
            for got, expected in zip(together, alone, strict=True):
                if expected is not None:
                    np.testing.assert_array_equal(got[row], expected[0])


def dull_step(tokens, state):
    return ops.zeros((ops.shape(tokens)[0], 5)), state


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_width": 0}, "beam_width must be 1 or more, but got beam_width=0"),
        ({"beam_width": 2, "top_paths": 3}, "top_paths=3 and beam_width=2"),
        ({"top_paths": 0}, "top_paths=0"),
        ({"max_length": 0}, "max_length=0"),
        ({"min_length": 9}, "min_length=9 is more than max_length=4"),
        ({"min_length": -1}, "min_length=-1"),
        ({"length_penalty_kind": "google"}, "'gnmt' or 'average', but got 'google'"),
        ({"coverage_penalty": 0.1}, r"coverage_penalty=0.1 needs a step that returns \(logits, state, alignments\)"),
        ({"coverage_penalty": -0.1}, "coverage_penalty must be 0 or more"),
        ({"coverage_penalty": np.nan}, "coverage_penalty must be a finite number, but got coverage_penalty=nan"),
        ({"length_penalty": np.nan}, "length_penalty must be a finite number, but got length_penalty=nan"),
        ({"early_stopping": 1}, "early_stopping must be True, .* but got 1"),
        ({"min_length": 0, "constraints": (MinimumLength(9),)}, r"MinimumLength\(length=9\).* max_length=4"),
        ({"early_stopping": "soon"}, "but got 'soon'"),
        ({"eos_id": -1}, "eos_id=-1 is outside the vocabulary"),
        ({"patience": 0.0}, "patience must be above 0, or None, but got patience=0.0"),
        ({"score_margin": 0.0}, "score_margin must be a positive number .* but got score_margin=0.0"),
        ({"score_margin": np.nan}, "score_margin must be a finite number, but got score_margin=nan"),
    ],
)
def test_says_what_is_wrong_with_options(options, message):
    with pytest.raises(ValueError, match=message):
        beam_search(dull_step, np.zeros((1, 1)), **{**IDS, "max_length": 4, **options})


@pytest.mark.parametrize("mask", [np.ones((2, 5), "bool"), np.ones((3, 4), "bool"), np.ones(4, "bool")])
def test_a_source_mask_must_fit(rnn, mask):
    with pytest.raises(ValueError, match=rf"source_mask .* \(2, 4\) .* but has shape {re.escape(str(mask.shape))}"):
        run_model(beam_search, rnn, max_length=3, coverage_penalty=0.1, source_mask=mask)


def test_ends_may_be_an_array():
    model, options = RandomRNN(), {"max_length": 4, "beam_width": 3, "top_paths": 3, "bos_id": 1}
    as_array, as_tuple = (
        beam_search(model.step, model.state, memory=model.memory, eos_id=ends, **options)
        for ends in (np.array([4, 2]), (2, 4))
    )
    np.testing.assert_array_equal(as_array.tokens, as_tuple.tokens)
