"""The loss of distillation against its NumPy twin."""

import numpy as np
import pytest

from kseq.losses import soft_target_loss
from tests.reference import objectives as reference
from tests.support import gradient


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype("float32")


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_it_equals_its_twin(temperature, logits):
    teacher, own = logits
    teacher[0, 1, 2] = -np.inf  # a token that the teacher never writes
    got = np.asarray(soft_target_loss(teacher, own, temperature=temperature))
    for place in np.ndindex(2, 3):
        expected = reference.soft_target_loss(teacher[place], own[place], temperature)
        np.testing.assert_allclose(got[place], expected, rtol=1e-4)
    np.testing.assert_allclose(soft_target_loss(own, own, temperature=temperature), 0, atol=1e-6)


def test_gradients_are_differences_of_probabilities(logits):
    """At temperature T, d loss / d logits is T (q - p)."""
    teacher, own = logits
    d_teacher, d_own = gradient(lambda t, o: soft_target_loss(t, o, temperature=2.0)[0, 0], teacher, own)
    p, q = (reference.softmax(each[0, 0] / 2.0) for each in (teacher, own))
    np.testing.assert_allclose(d_own[0, 0], 2.0 * (q - p), atol=1e-5)
    assert not d_teacher.any()


def test_a_wrong_teacher_makes_its_step_nan_without_a_gradient(logits):
    teacher, own = logits
    for wrong in (np.nan, np.inf):
        teacher[1, 0, 3] = wrong
        losses = np.asarray(soft_target_loss(teacher, own))
        assert np.isnan(losses[1, 0])
        assert np.isnan(losses).sum() == 1
        (d_own,) = gradient(lambda o: soft_target_loss(teacher, o)[1, 0], own)
        assert not d_own.any()


def test_wrong_arguments_are_refused(logits):
    with pytest.raises(ValueError, match=r"temperature=0.0, but it must be above 0"):
        soft_target_loss(*logits, temperature=0.0)
    with pytest.raises(ValueError, match=r"logits have shape \(2, 3, 3\), but the model's have \(2, 3, 4\)"):
        soft_target_loss(logits[0][..., :3], logits[1])
