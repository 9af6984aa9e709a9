import numpy as np
import pytest
from keras import ops

from kseq.linear_recurrence import linear_recurrence
from tests.reference import linear_recurrence as reference
from tests.support import assert_all_close, compiled, gradient


def coefficients(time, batch=2, units=3):
    random = np.random.default_rng(time)
    decay = random.uniform(size=(time, batch, units)).astype("float32")
    decay[random.uniform(size=decay.shape) < 0.1] = 0.0
    decay[random.uniform(size=decay.shape) < 0.1] = 1.0
    increments = random.normal(size=decay.shape).astype("float32")
    return decay, increments, random.normal(size=(batch, units)).astype("float32")


@pytest.mark.parametrize("time", [1, 2, 7, 8, 9, 64, 65, 500])
def test_equals_one_step_after_the_other(time):
    """At lengths around the chunks' sizes; decays of exactly 0 and 1 among them."""
    decay, increments, initial = coefficients(time)
    states = linear_recurrence(decay, increments, initial)
    np.testing.assert_allclose(states, reference.linear_recurrence(decay, increments, initial), atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_mask_holds_and_reverse_keeps_places(reverse):
    decay, increments, initial = coefficients(20)
    mask = np.random.default_rng(1).uniform(size=(20, 2)) < 0.6
    states = linear_recurrence(decay, increments, initial, mask, reverse=reverse)
    held = np.where(mask[..., None], decay, 1.0), np.where(mask[..., None], increments, 0.0)
    order = slice(None, None, -1) if reverse else slice(None)
    expected = reference.linear_recurrence(held[0][order], held[1][order], initial)[order]
    np.testing.assert_allclose(states, expected, atol=1e-5)


@pytest.mark.parametrize("time", [1, 9, 70])
def test_gradient_equals_the_textbooks(time):
    """d_t = g_t + a_{t+1} d_{t+1}, written out."""
    decay, increments, initial = coefficients(time)
    weights = np.random.default_rng(2).normal(size=decay.shape).astype("float32")
    got = gradient(lambda *a: ops.sum(linear_recurrence(*a) * weights), decay, increments, initial)
    states = reference.linear_recurrence(decay, increments, initial)
    before = np.concatenate([initial[None], states[:-1]])
    adjoint, d_increments = np.zeros_like(initial), np.zeros(decay.shape)
    for step in reversed(range(time)):
        d_increments[step] = weights[step] + adjoint
        adjoint = decay[step] * d_increments[step]
    assert_all_close(got, [d_increments * before, d_increments, adjoint], atol=1e-4)


def test_compiled_equals_eager_and_half_precision_is_summed_in_float32():
    decay, increments, initial = coefficients(300)
    eager = linear_recurrence(decay, increments, initial)
    np.testing.assert_allclose(compiled(linear_recurrence)(decay, increments, initial), eager, atol=1e-5)
    ones = np.ones((4096, 1, 1), "float16")
    # In float16 the sum of ones would stop at 2048.
    total = linear_recurrence(ones, ones, np.zeros((1, 1), "float16"))[-1]
    assert float(np.asarray(total)[0, 0]) == 4096.0


@pytest.mark.tensorflow
def test_unknown_batch_and_time():
    import tensorflow as tf

    decay, increments, initial = coefficients(37)
    specs = [tf.TensorSpec([None, None, 3])] * 2 + [tf.TensorSpec([None, 3])]
    run = tf.function(linear_recurrence, input_signature=specs)
    expected = reference.linear_recurrence(decay, increments, initial)
    np.testing.assert_allclose(run(decay, increments, initial), expected, atol=1e-5)
