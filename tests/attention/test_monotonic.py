"""Monotonic attention, compared with its NumPy reference."""

import numpy as np
import pytest
from keras import ops

from kseq.attention import MonotonicAttention
from tests.reference import attention as twin
from tests.support import gradient

RANDOM = np.random.default_rng(3)
QUERIES = RANDOM.normal(size=(2, 3, 4)).astype("float32")
VALUES = RANDOM.normal(size=(2, 5, 6)).astype("float32")
LENGTHS = (5, 2)
MASK = np.arange(5) < np.array(LENGTHS)[:, None]


def built(**options):
    layer = MonotonicAttention(4, **options)
    layer.build(QUERIES.shape, VALUES.shape)
    for weight in layer.weights:
        weight.assign(RANDOM.normal(size=weight.shape))
    return layer


def energies_of(layer, row, length):
    named = {weight.path.split("/", 1)[1]: np.asarray(weight) for weight in layer.weights}
    if layer.energy == "dot":
        scores = [
            [
                twin.dot_product_score(q, v, scale=True, kernel=named["energy/memory/kernel"])
                for v in VALUES[row, :length]
            ]
            for q in QUERIES[row]
        ]
        return named["gain"] * np.array(scores) + named["offset"]
    names = ("query/kernel", "query/bias", "memory/kernel", "v", "gain")
    arguments = [named[f"energy/{name}"] for name in names]
    scores = [[twin.additive_score(q, v, *arguments) for v in VALUES[row, :length]] for q in QUERIES[row]]
    return np.array(scores) + named["offset"]


@pytest.mark.every_backend
@pytest.mark.parametrize("energy", ["additive", "dot"])
def test_expected_and_hard_alignments_equal_the_numpy_twin(energy):
    layer = built(energy=energy, noise=0.0)
    memory = layer.memory(VALUES, MASK)
    soft, hard = (np.asarray(layer(QUERIES, memory, training=training)[1]) for training in (True, False))
    for row, length in enumerate(LENGTHS):
        before, start = np.eye(length)[0], 0
        for place, energies in enumerate(energies_of(layer, row, length)):
            before = twin.expected_alignments(1 / (1 + np.exp(-energies)), before)
            np.testing.assert_allclose(soft[row, place, :length], before, atol=1e-6)
            start = None if start is None else twin.hard_alignment(energies, start)
            expected = np.zeros(length) if start is None else np.eye(length)[start]
            np.testing.assert_array_equal(hard[row, place, :length], expected)


def test_expected_alignments_over_500_steps_are_exact_in_float32():
    """Also where probabilities to stop are nearly 0 or 1, where quotients of products of decays are not exact."""
    layer, random = MonotonicAttention(4), np.random.default_rng(0)
    largest = np.array([1.0, 20.0, 200.0])[:, None]  # of each row
    energies = random.uniform(-largest, largest / 4, size=(3, 500)).astype("float32")
    before = twin.softmax(random.normal(size=500))
    got = np.asarray(layer._align_softly(energies, None, np.tile(before, (3, 1)).astype("float32")))
    for row in range(3):
        expected = twin.expected_alignments(1 / (1 + np.exp(-energies[row].astype("float64"))), before)
        np.testing.assert_allclose(got[row], expected, rtol=1e-4, atol=1e-12)


@pytest.mark.every_backend
def test_expected_alignments_approach_hard_attention_as_energies_grow():
    layer, memory = built(noise=0.0, energy="dot"), None
    weights = {}
    for factor in (1.0, 1e4):
        layer.gain.assign(factor)
        layer.offset.assign(0.3 * factor)
        memory = layer.memory(VALUES, MASK)
        weights[factor] = [np.asarray(layer(QUERIES, memory, training=training)[1]) for training in (True, False)]
    assert np.abs(weights[1.0][0] - weights[1.0][1]).max() > 0.3
    np.testing.assert_allclose(*weights[1e4], atol=1e-6)
    assert set(weights[1e4][1].sum(-1).flatten()) == {0.0, 1.0}  # some queries pass all steps


def test_gradients_of_expected_alignments_equal_finite_differences():
    layer = built(noise=0.0, hard=False)
    memory = layer.memory(VALUES, MASK)
    factors = RANDOM.normal(size=(2, 3, 5)).astype("float32")

    def total(queries):
        return ops.sum(layer(queries, memory)[1] * factors)

    (got,) = gradient(total, QUERIES)
    for place in [(0, 0, 1), (1, 1, 2), (0, 2, 3)]:
        step = np.zeros_like(QUERIES)
        step[place] = 1e-2
        difference = (float(total(QUERIES + step)) - float(total(QUERIES - step))) / 2e-2
        np.testing.assert_allclose(got[place], difference, atol=1e-3)


def test_noise_is_added_to_energies_in_training_only():
    layer = built(noise=3.0, seed=1)
    memory = layer.memory(VALUES, MASK)
    draws = layer.draw(2, 3, 5, True)
    assert 1.5 < np.std(layer.draw(20, 30, 5, True).noise) < 4.5
    weights, _ = layer.weigh_sequence(QUERIES, memory, layer.initial_state(2, 5), training=True, noise=draws.noise)
    np.testing.assert_allclose(layer(QUERIES, memory, training=True, draws=draws)[1], weights, atol=1e-6)
    silent, _ = layer.weigh_sequence(QUERIES, memory, layer.initial_state(2, 5), training=True)
    assert not np.allclose(weights, silent, atol=1e-2)
    assert layer.draw(2, 3, 5, False).noise == ()


def test_an_offset_moves_on_by_the_documented_number_of_steps():
    layer = MonotonicAttention(4, initial_offset=-1.0, noise=0.0, hard=False)
    values = np.zeros((1, 200, 6), "float32")
    weights = np.asarray(layer(np.zeros((1, 10, 4), "float32"), layer.memory(values))[1])
    places = (weights[0] * np.arange(200)).sum(-1)
    np.testing.assert_allclose(np.diff(places), np.e, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"energy": "cosine"}, "energy='cosine', but MonotonicAttention has the energies additive, dot"),
        ({"noise": -1.0}, r"noise=-1.0, but it is a standard deviation, at least 0"),
        ({"hard": "yes"}, "hard must be True or False, but got hard='yes'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MonotonicAttention(4, **options)
