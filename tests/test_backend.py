"""The backend's loops and gradients against plain Python loops."""

import contextlib
from typing import NamedTuple

import keras
import numpy as np
import pytest
from keras import ops

from kseq import backend
from tests.support import BACKEND, compiled, gradient


class Carry(NamedTuple):
    total: object
    count: object


def step(carry, inputs):
    total = ops.tanh(carry.total + inputs["x"])
    return Carry(total, carry.count + 1), (total, {"twice": 2.0 * total})


def python_loop(total, x, reverse):
    outputs = np.zeros_like(x)
    for time in reversed(range(len(x))) if reverse else range(len(x)):
        total = np.tanh(total + x[time])
        outputs[time] = total
    return total, outputs


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    return random.normal(size=(3, 4)).astype("float32"), random.normal(size=(5, 3, 4)).astype("float32")


@pytest.mark.every_backend
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_scan_is_a_loop_over_any_structure(data, reverse, unroll, wrap):
    total, x = data

    def run(total, x):
        return backend.scan(step, Carry(total, 0), {"x": x}, reverse=reverse, unroll=unroll)

    carry, (outputs, extra) = wrap(run)(total, x)
    expected_total, expected_outputs = python_loop(total, x, reverse)
    assert isinstance(carry, Carry)
    assert int(carry.count) == 5
    np.testing.assert_allclose(carry.total, expected_total, atol=1e-6)
    np.testing.assert_allclose(outputs, expected_outputs, atol=1e-6)
    np.testing.assert_allclose(extra["twice"], 2 * expected_outputs, atol=1e-6)


@pytest.mark.every_backend
def test_scan_may_give_no_outputs(data):
    total, x = data
    final, outputs = compiled(lambda t, x: backend.scan(lambda c, i: (c + i, ()), t, x))(total, x)
    assert outputs == ()
    np.testing.assert_allclose(final, total + x.sum(axis=0), atol=1e-5)


@pytest.mark.every_backend
def test_scan_is_differentiable(data):
    total, x = data

    def loss(total, x):
        return ops.sum(ops.square(backend.scan(step, Carry(total, 0), {"x": x})[1][0]))

    eager = gradient(loss, total, x)
    for index, (place, epsilon) in enumerate([((1, 2), 1e-3), ((2, 1, 3), 1e-3)]):
        arrays = [total.astype("float64"), x.astype("float64")]
        values = []
        for sign in (1, -1):
            moved = [a.copy() for a in arrays]
            moved[index][place] += sign * epsilon
            values.append(np.sum(python_loop(moved[0], moved[1], False)[1] ** 2))
        np.testing.assert_allclose(eager[index][place], (values[0] - values[1]) / (2 * epsilon), rtol=1e-3)


def test_scan_takes_unknown_time_and_batch(data):
    import tensorflow as tf

    total, x = data
    specs = [tf.TensorSpec([None, 4]), tf.TensorSpec([None, None, 4])]
    run = tf.function(lambda t, x: backend.scan(step, Carry(t, 0), {"x": x})[1][0], input_signature=specs)
    np.testing.assert_allclose(run(total, x), python_loop(total, x, False)[1], atol=1e-6)
    with pytest.raises(ValueError, match="static number of time steps"):
        tf.function(lambda x: backend.scan(step, Carry(x[0], 0), {"x": x}, unroll=True)).get_concrete_function(specs[1])


def step_in_place(carry, at):
    """The result of `step`; the output is the number of steps so far, and the total is written over x."""
    _, buffers = at
    carry, (total, _) = step(carry, buffers)
    return carry, (carry.count, {"x": total})


@pytest.mark.every_backend
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_scan_in_place_writes_each_buffer_where_it_was_read(data, reverse, unroll, wrap):
    total, x = data

    def run(total, x):
        return backend.scan_in_place(step_in_place, Carry(total, 0), (), {"x": x}, reverse=reverse, unroll=unroll)

    before = x.copy()
    carry, (counts, buffers) = wrap(run)(total, x)
    expected_total, expected = python_loop(total, x, reverse)
    assert int(carry.count) == 5
    np.testing.assert_array_equal(counts, [5, 4, 3, 2, 1] if reverse else [1, 2, 3, 4, 5])
    np.testing.assert_allclose(carry.total, expected_total, atol=1e-6)
    np.testing.assert_allclose(buffers["x"], expected, atol=1e-6)
    np.testing.assert_array_equal(x, before)  # the caller's array is not the buffer


@pytest.mark.every_backend
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("options", [{}, {"fetch_ahead": False}, {"unroll": True}], ids=["ahead", "direct", "unrolled"])
@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_scan_in_place_keeps_carries(data, reverse, options, wrap):
    total, x = data

    def run(total, x):
        start, buffers = Carry(total, 0), {"x": x}
        return backend.scan_in_place(step_in_place, start, (), buffers, reverse=reverse, keep_carries=True, **options)

    carry, ((counts, carries), buffers) = wrap(run)(total, x)
    _, expected = python_loop(total, x, reverse)
    np.testing.assert_allclose(buffers["x"], expected, atol=1e-6)
    all_totals, all_counts = [total, *(expected[::-1] if reverse else expected)], list(range(6))
    if reverse:
        all_totals, all_counts = all_totals[::-1], all_counts[::-1]
    np.testing.assert_allclose(carries.total, all_totals, atol=1e-6)
    np.testing.assert_array_equal(carries.count, all_counts)
    np.testing.assert_array_equal(counts, [5, 4, 3, 2, 1] if reverse else [1, 2, 3, 4, 5])
    np.testing.assert_allclose(carry.total, all_totals[0 if reverse else -1], atol=1e-6)


@pytest.mark.every_backend
@pytest.mark.parametrize("fetch_ahead", [True, "buffers", False])
def test_scan_in_place_reads_inputs_and_buffers_of_the_same_step(data, fetch_ahead):
    _, x = data

    def step(carry, at):
        one, other = at
        return carry + one, ((), one + 2.0 * other)

    def run(x):
        return backend.scan_in_place(step, x[0], 10.0 * x, x, reverse=True, fetch_ahead=fetch_ahead, like=lambda: ())

    carry, (_, buffers) = compiled(run)(x)
    np.testing.assert_allclose(buffers, 12.0 * x, atol=1e-5)
    np.testing.assert_allclose(carry, x[0] + 10.0 * x.sum(axis=0), atol=1e-4)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_scan_in_place_takes_unknown_time_and_batch(data, jit_compile):
    import tensorflow as tf

    specs = [tf.TensorSpec([None, 4]), tf.TensorSpec([None, None, 4])]

    @tf.function(input_signature=specs, jit_compile=jit_compile)
    def run(total, x):
        return backend.scan_in_place(step_in_place, Carry(total, 0), (), {"x": x}, reverse=True)[1][1]["x"], x

    total, x = data
    for rows, steps in ((3, 5), (2, 1)):
        part = x[:steps, :rows]
        got, unchanged = run(total[:rows], part)
        np.testing.assert_allclose(got, python_loop(total[:rows], part, True)[1], atol=1e-6)
        np.testing.assert_array_equal(unchanged, part)


@pytest.mark.every_backend
@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_while_loop_keeps_the_structure(wrap):
    def run(value):
        return backend.while_loop(lambda c: c.count < 4, lambda c: Carry(c.total * 2.0, c.count + 1), Carry(value, 0))

    result = wrap(run)(np.float32(1.5))
    assert isinstance(result, Carry)
    assert float(result.total) == 24.0


@pytest.mark.every_backend
@pytest.mark.parametrize("keep_residuals", [False, True])
def test_custom_gradient_uses_the_given_backward_pass(keep_residuals):
    """The backward pass returns 10 times the true gradient, so that it cannot be confused with another."""

    def function(x, y):
        (product,), _ = backend.custom_gradient(
            lambda x, y: ((x * y,), {"unused": x}),
            lambda x, y: (((x * y,), {"unused": x}), (x, y)),
            lambda kept, cotangents: (10 * kept[1] * cotangents[0][0], 10 * kept[0] * cotangents[0][0]),
            (x, y),
            keep_residuals=keep_residuals,
        )
        return ops.sum(product)

    dx, dy = gradient(function, np.float32([1, 2]), np.float32([3, 4]))
    np.testing.assert_allclose(dx, [30, 40])
    np.testing.assert_allclose(dy, [10, 20])


@pytest.mark.every_backend
def test_vector_jacobian_product():
    outputs, pullback = backend.vector_jacobian_product(
        lambda x, pair: (x * pair[0], pair[1]), ops.array([1.0, 2.0]), (ops.array([3.0, 4.0]), ops.array([5.0, 6.0]))
    )
    np.testing.assert_allclose(outputs[0], [3, 8])
    dx, (d0, d1) = pullback((ops.array([1.0, 10.0]), ops.array([7.0, 8.0])))
    np.testing.assert_allclose(dx, [3, 40])
    np.testing.assert_allclose(d0, [1, 20])
    np.testing.assert_allclose(d1, [7, 8])


def test_dropout_masks_are_kerass_and_the_same_compiled():
    like = np.zeros((7, 33), "float32")
    seeds = [keras.random.SeedGenerator(5) for _ in range(4)]
    expected = keras.random.dropout(np.ones_like(like), 0.3, seed=seeds[0])
    np.testing.assert_array_equal(backend.dropout_mask(like, 0.3, seeds[1]), expected)
    np.testing.assert_array_equal(compiled(lambda x: backend.dropout_mask(x, 0.3, seeds[2]))(like), expected)
    half = backend.dropout_mask(ops.cast(like, "float16"), 0.3, seeds[3])
    np.testing.assert_array_equal(np.asarray(half) == 0, np.asarray(expected) == 0)


@pytest.mark.every_backend
@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_dropout_masks_keep_the_mean(rate):
    mask = np.asarray(backend.dropout_mask(np.zeros((100, 200), "float32"), rate, keras.random.SeedGenerator(1)))
    assert abs(np.mean(mask == 0) - rate) <= 5 * np.sqrt(rate * (1 - rate) / mask.size)
    np.testing.assert_allclose(mask[mask != 0], 1 / (1 - rate) if rate < 1 else 1, rtol=1e-6)


@pytest.mark.every_backend
def test_random_bits_are_all_random():
    seed = keras.random.SeedGenerator(2)
    first, second = (np.asarray(backend.random_bits((100, 50), seed)) for _ in range(2))
    assert first.dtype == np.uint32
    assert np.mean(first == second) < 0.01
    for bit in range(32):
        assert abs(np.mean((first >> bit) & 1) - 0.5) < 5 * 0.5 / np.sqrt(first.size)


@pytest.mark.every_backend
@pytest.mark.server
def test_an_unsupported_backend_is_refused():
    import subprocess
    import sys

    result = subprocess.run(
        [sys.executable, "-c", "import keras; keras.backend.backend = lambda: 'torch'; import kseq.backend"],
        capture_output=True,
        text=True,
        env={**__import__("os").environ, "KERAS_BACKEND": BACKEND},
    )
    assert result.returncode != 0
    assert "KERAS_BACKEND=tensorflow" in result.stderr


@pytest.mark.every_backend
@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_stateful_scan_hands_variables_from_step_to_step(data, unroll, wrap):
    total, x = data
    count = keras.Variable(1.0, trainable=False)

    def count_steps(carry, inputs):
        count.assign(count + 1.0)
        return carry + inputs, count.value * ops.ones_like(carry)

    def run(total, x, value):
        with keras.StatelessScope([(count, value)]) if BACKEND == "jax" else contextlib.nullcontext() as scope:
            final, outputs = backend.stateful_scan(count_steps, total, x, [count], unroll=unroll)
            return final, outputs, count.value if scope is None else scope.get_current_value(count)

    final, outputs, left = wrap(run)(total, x, np.float32(1.0))
    np.testing.assert_allclose(final, total + x.sum(axis=0), atol=1e-5)
    # TensorFlow traces a step before the loop to infer the outputs' shapes.
    first = np.asarray(outputs)[0, 0, 0]
    np.testing.assert_allclose(np.asarray(outputs)[:, 0, 0], first + np.arange(5))
    assert float(left) == first + 4


def test_stateful_scan_has_a_gradient_for_unknown_batch_under_xla(data):
    """XLA cannot compile the gradient of a product of inputs with several axes if inputs are fetched ahead."""
    import tensorflow as tf

    kernel = tf.Variable(data[1][0])  # (3, 4)

    def gradients(x):
        def step(carry, inputs):
            carry = tf.tanh(carry + tf.reduce_sum(tf.tensordot(inputs, kernel, 1), axis=1))
            return carry, carry

        with tf.GradientTape() as tape:
            _, outputs = backend.stateful_scan(step, tf.zeros((tf.shape(x)[1], 4)), x, [])
            total = tf.reduce_sum(outputs**2)
        return tape.gradient(total, kernel)

    x = np.random.default_rng(1).normal(size=(5, 2, 6, 3)).astype("float32")
    run = tf.function(gradients, input_signature=[tf.TensorSpec((None, None, 6, 3))], jit_compile=True)
    np.testing.assert_allclose(run(x), gradients(tf.constant(x)), atol=1e-5)
