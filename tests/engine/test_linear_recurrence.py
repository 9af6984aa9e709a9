"""`linear_recurrence` against a loop over single steps, in values and gradients."""

import numpy as np
import pytest
from keras import ops

from kseq.engine.linear_recurrence import linear_recurrence
from tests.reference import linear_recurrence as twins
from tests.support import assert_all_close, compiled, gradient

TIMES = [1, 7, 8, 9, 64, 150, 700]  # around the radix and its square, and longer


def draw(time, batch=2, units=3, dtype="float32"):
    """Decays, increments, initial state, and a mask with holes."""
    random = np.random.default_rng(time)
    decay = random.uniform(size=(time, batch, units)).astype(dtype)
    increments = random.normal(size=(time, batch, units)).astype(dtype)
    return decay, increments, random.normal(size=(batch, units)).astype(dtype), random.uniform(size=(time, batch)) < 0.7


@pytest.mark.every_backend
@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_states_are_those_of_one_step_after_the_other(time, reverse, masked):
    decay, increments, initial, mask = draw(time)
    mask = mask if masked else None
    got = linear_recurrence(decay, increments, initial, mask, reverse=reverse)
    np.testing.assert_allclose(got, twins.states(decay, increments, initial, mask, reverse=reverse), atol=1e-5)


@pytest.mark.long_on_jax
@pytest.mark.parametrize("time", [5, 70])  # with and without a loop over the rest
@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_are_those_of_one_step_after_the_other(time, reverse):
    *arrays, mask = draw(time)
    weights = np.random.default_rng(0).normal(size=arrays[1].shape).astype("float32")

    def one_by_one(decay, increments, initial):
        found, state = [None] * time, initial
        for step in range(time)[:: -1 if reverse else 1]:
            new = decay[step] * state + increments[step]
            state = found[step] = ops.where(mask[step][:, None], new, state)
        return ops.sum(ops.stack(found) * weights)

    got = gradient(lambda *a: ops.sum(linear_recurrence(*a, mask, reverse=reverse) * weights), *arrays)
    assert_all_close(got, gradient(one_by_one, *arrays), atol=1e-5)


@pytest.mark.every_backend
def test_compiled_equals_eager():
    decay, increments, initial, mask = draw(150)
    run = compiled(lambda a, b, h, m: linear_recurrence(a, b, h, m))
    np.testing.assert_allclose(
        run(decay, increments, initial, mask), linear_recurrence(decay, increments, initial, mask), atol=1e-6
    )


@pytest.mark.long
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_graph_of_unknown_time_and_batch(jit_compile):
    import tensorflow as tf

    specs = [tf.TensorSpec([None, None, 3])] * 2 + [tf.TensorSpec([None, 3]), tf.TensorSpec([None, None], tf.bool)]

    @tf.function(input_signature=specs, jit_compile=jit_compile, autograph=False)
    def run(decay, increments, initial, mask):
        with tf.GradientTape() as tape:
            tape.watch(decay)
            states = linear_recurrence(decay, increments, initial, mask)
        return states, tape.gradient(states, decay)

    for time in (1, 9, 150):
        decay, increments, initial, mask = draw(time)
        states, d_decay = run(decay, increments, initial, mask)
        np.testing.assert_allclose(states, twins.states(decay, increments, initial, mask), atol=1e-5)
        expected = gradient(lambda a, b=increments, h=initial, m=mask: ops.sum(linear_recurrence(a, b, h, m)), decay)
        np.testing.assert_allclose(d_decay, expected[0], atol=1e-4)


def test_decays_of_zero_and_one_are_as_good_as_any():
    """A decay of zero discards all earlier steps; with one, states are sums. Gradients are finite and exact."""
    decay = np.ones((1000, 1, 2), "float32")
    decay[300, :, 1] = 0.0
    ones, initial = np.ones_like(decay), np.zeros((1, 2), "float32")
    got = np.asarray(linear_recurrence(decay, ones, initial))[:, 0]
    np.testing.assert_array_equal(got[:, 0], np.arange(1, 1001))
    np.testing.assert_array_equal(got[300:, 1], np.arange(1, 701))
    d_decay, d_ones, d_initial = gradient(lambda *a: ops.sum(linear_recurrence(*a)[-1]), decay, ones, initial)
    np.testing.assert_array_equal(d_decay[:, 0, 0], np.arange(1000))  # the state before each step
    np.testing.assert_array_equal(d_ones[:, 0, 1], np.arange(1000) >= 300)
    np.testing.assert_array_equal(d_initial, [[1.0, 0.0]])


def test_a_long_sequence_of_strong_decay_does_not_overflow():
    """The product of all decays is 1e-12000, whose inverse is not a float32."""
    decay = np.full((4000, 1, 1), 1e-3, "float32")
    states = np.asarray(linear_recurrence(decay, np.ones_like(decay), np.ones_like(decay[0])))
    np.testing.assert_allclose(states[1:], 1.001, rtol=1e-5)
    gradients = gradient(lambda a: ops.sum(linear_recurrence(a, np.ones_like(decay), np.ones_like(decay[0]))), decay)
    np.testing.assert_allclose(gradients[0][5:-1], 1.001 * 1.001, rtol=1e-5)


@pytest.mark.every_backend
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_adds_up_in_single(dtype):
    """Computed in float16, the sum of ones would end at 2048; in bfloat16, at 256."""
    ones = ops.ones((3000, 1, 1), dtype=dtype)
    states = linear_recurrence(ones, ones, ops.zeros((1, 1), dtype=dtype))
    assert states.dtype == ones.dtype
    np.testing.assert_allclose(ops.cast(states[-1], "float32"), 3000.0, rtol=2**-8)


def test_double_precision_stays_double():
    decay, increments, initial, _ = draw(150, dtype="float64")
    got = linear_recurrence(decay, increments, initial)
    np.testing.assert_allclose(got, twins.states(decay, increments, initial), rtol=1e-12, atol=1e-14)
