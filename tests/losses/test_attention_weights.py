"""Losses of attention weights against their NumPy twins."""

import numpy as np
import pytest

from kseq.losses import coverage_loss, diagonal_attention_loss, guided_alignment_loss
from tests.reference import objectives as reference
from tests.support import gradient

ROWS, TARGETS, SOURCES = 3, 4, 5
LENGTHS = np.array([4, 2, 1]), np.array([5, 3, 1])


@pytest.fixture
def weights():
    values = np.random.default_rng(0).random((ROWS, TARGETS, SOURCES)).astype("float32")
    return values / values.sum(axis=-1, keepdims=True)


@pytest.fixture
def alignments():
    values = np.random.default_rng(1).integers(0, 3, size=(ROWS, TARGETS, SOURCES)).astype("float32")
    values[1, 2] = 0
    return values


@pytest.mark.parametrize("kind", ["cross_entropy", "mean_squared"])
def test_guided_alignment_equals_its_twin(kind, weights, alignments):
    weights[0, 0, 0] = 0.0
    got = np.asarray(guided_alignment_loss(weights, alignments, kind=kind))
    for place in np.ndindex(ROWS, TARGETS):
        expected = reference.guided_alignment_loss(weights[place], alignments[place], kind)
        np.testing.assert_allclose(got[place], expected, rtol=1e-5)
    assert got[1, 2] == 0
    twice = guided_alignment_loss(weights, 2 * alignments, kind=kind)
    np.testing.assert_allclose(twice, got, rtol=1e-6)


def test_wrong_alignments_make_their_step_nan_without_a_gradient(weights, alignments):
    for wrong in (np.nan, np.inf, -1.0):
        other = alignments.copy()
        other[1, 3, 2] = wrong
        losses = np.asarray(guided_alignment_loss(weights, other))
        assert np.isnan(losses[1, 3])
        assert np.isnan(losses).sum() == 1
        (d_weights,) = gradient(lambda w, a=other: guided_alignment_loss(w, a)[1, 3], weights)
        assert not d_weights.any()


def test_the_diagonal_equals_its_twin(weights):
    padded = weights.copy()
    for row, (targets, sources) in enumerate(zip(*LENGTHS, strict=True)):
        padded[row, targets:], padded[row, :, sources:] = np.nan, np.nan
    got = np.asarray(diagonal_attention_loss(padded, *LENGTHS, width=0.3))
    for row, (targets, sources) in enumerate(zip(*LENGTHS, strict=True)):
        for step in range(TARGETS):
            real = step < targets
            args = weights[row, step], step, targets, sources, 0.3
            expected = reference.diagonal_attention_loss(*args) if real else 0.0
            np.testing.assert_allclose(got[row, step], expected, rtol=1e-5, atol=1e-6)


def test_coverage_equals_its_twin(weights):
    mask = np.arange(TARGETS) < LENGTHS[0][:, None]
    padded = np.where(mask[..., None], weights, np.nan)
    got = np.asarray(coverage_loss(padded, mask))
    expected = [reference.coverage_loss(weights[row, : LENGTHS[0][row]]) for row in range(ROWS)]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(coverage_loss(weights)[0], expected[0], rtol=1e-5)
    assert np.asarray(coverage_loss(np.eye(4)[None]))[0] == 0  # nothing is attended to twice
    assert np.asarray(coverage_loss(np.ones((1, 3, 1))))[0] == 2


def test_wrong_arguments_are_refused(weights, alignments):
    with pytest.raises(ValueError, match="kind='squared', but it must be one of"):
        guided_alignment_loss(weights, alignments, kind="squared")
    with pytest.raises(ValueError, match=r"have shape \(3, 4, 5\), but the alignments have \(3, 4, 4\)"):
        guided_alignment_loss(weights, alignments[..., :4])
    with pytest.raises(ValueError, match=r"width=0.0, but it must be above 0"):
        diagonal_attention_loss(weights, *LENGTHS, width=0.0)
