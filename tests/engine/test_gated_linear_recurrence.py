"""The linear recurrence with gates: chunks of any length, with and without residuals, in graphs of unknown shapes."""

import numpy as np
import pytest
from keras import ops

from kseq.engine.gated_linear_recurrence import (
    FEWEST_STEPS,
    MOST_STEPS,
    GatedEquations,
    _Chunks,
    gated_linear_recurrence,
)
from kseq.engine.linear_recurrence import linear_recurrence
from tests.support import assert_all_close, gradient

EQUATIONS = GatedEquations(
    project=lambda inputs, kernels: [ops.matmul(inputs, kernel) for kernel in kernels],
    coefficients=lambda projected, scale: (ops.sigmoid(scale * projected[0]), ops.tanh(projected[1])),
)


def draw(time):
    """Inputs, initial state, two kernels, a gate weight, and a mask with holes."""
    random = np.random.default_rng(time)
    shapes = [(time, 2, 5), (2, 3), (5, 3), (5, 3), (3,)]
    return *(random.normal(size=shape).astype("float32") for shape in shapes), random.uniform(size=(time, 2)) < 0.7


@pytest.mark.parametrize("time", [1, 16, 17, pytest.param(43, marks=pytest.mark.long_on_jax)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_equals_the_plain_recurrence_of_the_same_coefficients(time, masked, training):
    """The states, and the gradients of inputs, initial state and all weights, with or without residuals."""
    *arrays, mask = draw(time)
    mask = mask if masked else None
    weights = np.random.default_rng(0).normal(size=(time, 2, 3)).astype("float32")

    def ours(inputs, initial, first, second, scale):
        return gated_linear_recurrence(EQUATIONS, inputs, initial, [first, second], (scale,), mask, training=training)

    def plain(inputs, initial, first, second, scale):
        decay, increments = EQUATIONS.coefficients(EQUATIONS.project(inputs, [first, second]), scale)
        return linear_recurrence(decay, increments, initial, mask)

    np.testing.assert_allclose(ours(*map(ops.convert_to_tensor, arrays)), plain(*arrays), atol=1e-6)
    got, expected = (gradient(lambda *a, f=f: ops.sum(f(*a) * weights), *arrays) for f in (ours, plain))
    assert_all_close(got, expected, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_graph_of_unknown_time_and_batch(jit_compile):
    import tensorflow as tf

    specs = [tf.TensorSpec([None, None, 5]), tf.TensorSpec([None, 3]), tf.TensorSpec([None, None], tf.bool)]
    *_, first, second, scale, _ = map(tf.constant, draw(1))

    def function(inputs, initial, mask):
        with tf.GradientTape() as tape:
            tape.watch([inputs, first])
            states = gated_linear_recurrence(EQUATIONS, inputs, initial, [first, second], (scale,), mask, training=True)
        return states, *tape.gradient(states, [inputs, first])

    run = tf.function(function, input_signature=specs, jit_compile=jit_compile, autograph=False)
    for time in (1, 12, 43):
        inputs, initial, *_, mask = map(tf.constant, draw(time))
        assert_all_close(run(inputs, initial, mask), function(inputs, initial, mask), atol=1e-5)


def test_chunks_leave_little_to_be_padded():
    for time in range(1, 500):
        chunks = _Chunks.of(np.zeros((time, 1, 1)))
        padding = chunks.steps * chunks.count - time
        assert 0 <= padding <= (0 if time <= MOST_STEPS else 8)  # 8 of 421 steps at worst
        assert chunks.steps in range(FEWEST_STEPS, MOST_STEPS + 1) or chunks.count == 1
    assert _Chunks.of(np.zeros((2000, 1, 1)))[2:] == (10, 200)
