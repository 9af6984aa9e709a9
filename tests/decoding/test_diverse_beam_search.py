"""Diverse beam search against its twin."""

import numpy as np
import pytest
from keras import ops

from kseq.decoding import DiverseBeamSearch, beam_search, diverse_beam_search
from tests.decoding.models import EOS, RandomRNN, assert_hypotheses, run_model
from tests.reference import decoding as reference

MAX_LENGTH = 5
MODEL = RandomRNN(seed=4, batch=5)


@pytest.mark.long
@pytest.mark.long_on_jax
@pytest.mark.parametrize(
    ("width", "groups", "strength", "exponent", "early_stopping", "ends"),
    [
        (3, 3, 0.8, 0.0, True, EOS),
        (4, 2, 0.5, 1.0, True, EOS),
        (6, 3, 0.3, 0.6, False, (EOS, 4)),
        (4, 2, 2.0, -0.5, "never", EOS),
    ],
)
def test_equals_the_slow_one(width, groups, strength, exponent, early_stopping, ends):
    decoded = run_model(
        diverse_beam_search,
        MODEL,
        max_length=MAX_LENGTH,
        beam_width=width,
        num_groups=groups,
        diversity_strength=strength,
        top_paths=width,
        length_penalty=exponent,
        early_stopping=early_stopping,
        eos_id=ends,
    )
    for row in range(5):
        arguments = (MODEL.predict(row), 5, ends, MAX_LENGTH, width, groups, strength, width)
        best = reference.diverse_beam_search(*arguments, exponent=exponent)
        assert_hypotheses(decoded, row, best)


def test_each_group_is_pruned_by_its_own_best():
    decoded = run_model(
        diverse_beam_search,
        MODEL,
        max_length=MAX_LENGTH,
        beam_width=4,
        diversity_strength=0.5,
        top_paths=4,
        score_margin=0.5,
        early_stopping="never",
    )
    for row in range(5):
        best = reference.diverse_beam_search(MODEL.predict(row), 5, EOS, MAX_LENGTH, 4, 2, 0.5, 4, margin=0.5)
        nothing = (-1e30, reference.Hypothesis((), 0.0, False, 0.0))
        assert_hypotheses(decoded, row, best + [nothing] * (4 - len(best)))


def test_of_one_group_it_is_beam_search():
    options = {
        "max_length": MAX_LENGTH,
        "beam_width": 3,
        "top_paths": 3,
        "length_penalty": 0.7,
        "coverage_penalty": 0.1,
        "source_mask": MODEL.memory["mask"],
    }
    one = run_model(diverse_beam_search, MODEL, num_groups=1, **options)
    for got, expected in zip(one, run_model(beam_search, MODEL, **options), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.long
def test_every_group_counts_the_same_source_positions():
    mask = MODEL.memory["mask"] & (np.arange(4) != 1)
    options = {"max_length": MAX_LENGTH, "coverage_penalty": 0.5, "source_mask": mask}
    one = run_model(beam_search, MODEL, beam_width=2, top_paths=1, **options)
    groups = {"num_groups": 3, "diversity_strength": 0.0, "beam_width": 6, "top_paths": 3}
    three = run_model(diverse_beam_search, MODEL, **groups, **options)
    for place in range(3):
        np.testing.assert_allclose(three.scores[:, place], one.scores[:, 0], atol=1e-5)


def test_alignments_belong_to_their_tokens():
    options = {"beam_width": 4, "top_paths": 4, "diversity_strength": 1.0, "coverage_penalty": 0.1}
    decoded = run_model(diverse_beam_search, MODEL, max_length=MAX_LENGTH, **options)
    for row in range(5):
        predict = MODEL.predict(row)
        for place in range(4):
            tokens = tuple(np.asarray(decoded.tokens)[row, place][: int(decoded.lengths[row, place])].tolist())
            for i in range(len(tokens)):
                _, weights = predict(tokens[:i])
                np.testing.assert_allclose(decoded.alignments[row, place, i, : len(weights)], weights, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"beam_width": 4, "num_groups": 3},
            "num_groups must divide beam_width, but got num_groups=3 and beam_width=4",
        ),
        ({"num_groups": 0}, "num_groups=0"),
        ({"diversity_strength": -1.0}, "diversity_strength must be 0 or more, but got diversity_strength=-1.0"),
        ({"diversity_strength": np.nan}, "diversity_strength must be a finite number, but got diversity_strength=nan"),
    ],
)
def test_says_what_is_wrong_with_options(options, message):
    with pytest.raises(ValueError, match=message):
        DiverseBeamSearch(**options)


def test_what_has_ended_does_not_go_on_where_nothing_else_can():
    """Three places and two tokens beside eos, which is the most probable: the third place stays empty."""
    logits = np.log(np.array([0.1, 0.1, 0.8], "float32"))
    options = {"bos_id": 0, "eos_id": 2, "max_length": 2, "beam_width": 3, "top_paths": 3}

    def step(tokens, state):
        return ops.broadcast_to(logits, (ops.shape(tokens)[0], 3)), state

    diverse = diverse_beam_search(step, np.zeros((1, 1), "float32"), num_groups=1, **options)
    plain = beam_search(step, np.zeros((1, 1), "float32"), **options)
    np.testing.assert_array_equal(diverse.tokens, plain.tokens)
    np.testing.assert_allclose(diverse.scores, plain.scores)
