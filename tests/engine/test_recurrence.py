"""The engine against NumPy twins, finite differences in float64, and automatic gradients."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.backend import custom_gradient
from kseq.engine import Equations, Weights
from kseq.engine.recurrence import Recurrence, Rows
from kseq.masking import mask_from_lengths
from tests.reference import recurrence as twins
from tests.support import assert_all_close, compiled, gradient, outputs_and_gradients

TWINS = {
    "SimpleRNN": (kseq.layers.SimpleRNN, twins.simple_rnn_step, {}),
    "LSTM": (kseq.layers.LSTM, twins.lstm_step, {}),
    "GRU": (kseq.layers.GRU, twins.gru_step, {}),
    "GRU reset before": (kseq.layers.GRU, twins.gru_reset_before_step, {"reset_after": False}),
}
LENGTHS = np.array([6, 3, 0])


def run_recurrence(equations, projected, state, recurrent_weights, gate_weights=(), *, training=True):
    """Outputs and final state, of one group of rows."""
    rows, weights = Rows(projected, tuple(state), ()), Weights(recurrent_weights, gate_weights)
    loop = Recurrence(equations, rows)
    return custom_gradient(*loop.functions, ([rows], weights, ()), keep_residuals=training)[0]


def equations_of(recur, gates):
    return Equations(lambda inputs, mask: inputs, recur, gates, lambda batch_size: Weights((), ()))


def random_weights(layer):
    random = np.random.default_rng(1)
    weights = [random.normal(size=w.shape).astype(w.dtype) / 2 for w in layer.get_weights()]
    layer.set_weights(weights)
    return weights


@pytest.mark.every_backend
@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("training", [False, True])
def test_layers_equal_their_numpy_twins(name, training):
    layer_class, step, options = TWINS[name]
    layer = layer_class(4, return_sequences=True, return_state=True, zero_output_for_mask=True, **options)
    layer.build((None, None, 5))
    weights = random_weights(layer)
    random = np.random.default_rng(2)
    x = random.normal(size=(3, 6, 5)).astype("float32")
    state = [random.normal(size=(3, 4)).astype("float32") for _ in layer.state_size]
    mask = mask_from_lengths(LENGTHS, 6)
    outputs, *finals = layer(x, mask=mask, initial_state=state, training=training)
    expected, expected_finals = twins.run(step, x, LENGTHS, state, weights)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    assert_all_close([np.asarray(f) for f in finals], expected_finals, atol=1e-6)


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("go_backwards", [False, True])
def test_gradients_equal_central_differences_in_float64(name, go_backwards):
    layer_class, _, options = TWINS[name]
    options = {**options, "go_backwards": go_backwards, "dtype": "float64"}
    layer = layer_class(3, return_sequences=True, return_state=True, **options)
    layer.build((None, None, 2))
    weights = random_weights(layer)
    x = np.random.default_rng(3).normal(size=(2, 4, 2))
    mask = mask_from_lengths(np.array([4, 2]), 4)

    def loss():
        outputs, *finals = layer(x, mask=mask, training=True)
        return float(sum(np.sum(np.asarray(value) ** 2) for value in (outputs, *finals)))

    import tensorflow as tf

    with tf.GradientTape() as tape:
        outputs, *finals = layer(x, mask=mask, training=True)
        total = sum(tf.reduce_sum(value**2) for value in (outputs, *finals))
    gradients = tape.gradient(total, layer.trainable_weights)
    epsilon = 1e-6
    for index, weight in enumerate(weights):
        for place in [(0,) * weight.ndim, tuple(size - 1 for size in weight.shape)]:
            values = []
            for sign in (1, -1):
                moved = [w.copy() for w in weights]
                moved[index][place] += sign * epsilon
                layer.set_weights(moved)
                values.append(loss())
            layer.set_weights(weights)
            expected = (values[0] - values[1]) / (2 * epsilon)
            np.testing.assert_allclose(gradients[index][place], expected, rtol=1e-6, atol=1e-8)


class ScaledCell(kseq.cells.Cell):
    """A cell with a gate weight and a second state, whose step is neither additive nor a convolution."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.state_size, self.output_size = [units, units], units

    def build(self, input_shape):
        units = self.output_size
        self.kernel = self.add_weight(shape=(input_shape[-1], units), name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(units, units), name="recurrent_kernel")
        self.scale = self.add_weight(shape=(units,), initializer="ones", name="scale")

    @property
    def gate_weights(self):
        return (ops.convert_to_tensor(self.scale),)

    def gates(self, projected, recurrent, state, scale):
        _, memory = state
        memory = 0.5 * memory + ops.tanh(projected) * recurrent
        return ops.tanh(projected + scale * recurrent) + 0.1 * memory, memory


class MinimalCell(kseq.cells.Cell):
    """The least that the cell contract requires; `wrap` turns its new state into the result of `gates`."""

    def __init__(self, units, wrap=lambda hidden: (hidden,), **kwargs):
        super().__init__(**kwargs)
        self.state_size = self.output_size = units
        self.wrap = wrap

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.state_size), name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.state_size, self.state_size), name="recurrent_kernel")

    def project(self, inputs):
        return ops.matmul(inputs, self.kernel)

    def recur(self, hidden, recurrent_kernel):
        return ops.matmul(hidden, recurrent_kernel)

    def gates(self, projected, recurrent, state):
        return self.wrap(ops.tanh(projected + recurrent))


@pytest.mark.parametrize("layer_class", [kseq.layers.RNN, keras.layers.RNN])
def test_the_contract_is_enough(layer_class):
    x = np.random.default_rng(0).normal(size=(3, 6, 5)).astype("float32")
    assert layer_class(MinimalCell(4), return_sequences=True)(x, training=True).shape == (3, 6, 4)


@pytest.mark.parametrize("wrap", [lambda hidden: hidden, lambda hidden: (hidden, hidden)], ids=["tensor", "two"])
def test_gates_that_return_another_state_are_refused(wrap):
    with pytest.raises(ValueError, match=r"must return a tuple of the new state's 1 tensors.* return \(hidden,\)"):
        kseq.layers.RNN(MinimalCell(4, wrap))(np.zeros((3, 6, 5), "float32"))


@pytest.mark.long_on_jax
@pytest.mark.parametrize("masked", [False, True])
def test_a_users_cell_gets_right_gradients_of_gate_weights_and_unlike_inputs(masked):
    """The engine's gradient against plain differentiation of Keras's loop over the same cell."""
    cell = ScaledCell(4)
    ours = kseq.layers.RNN(cell, return_sequences=True, return_state=True)
    theirs = keras.layers.RNN(cell, return_sequences=True, return_state=True)
    x = np.random.default_rng(4).normal(size=(3, 6, 5)).astype("float32")
    mask = mask_from_lengths(np.array([6, 3, 1]), 6) if masked else None
    ours.build(x.shape)
    theirs.build(x.shape)
    got = outputs_and_gradients(ours, x, mask=mask, training=True)
    expected = outputs_and_gradients(theirs, x, mask=mask, training=True)
    assert_all_close(got[0], expected[0], atol=1e-6)
    assert_all_close(got[1], expected[1], atol=1e-5, rtol=1e-5)


@pytest.mark.long_on_jax
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_hand_written_gradients_equal_automatic_ones(kind):
    random = np.random.default_rng(5)
    layer = getattr(kseq.layers, kind)(4)
    layer.build((None, None, 5))
    equations = layer.cell.equations()
    assert equations.gates_gradient is not None
    weights = [np.asarray(w, "float32") for w in keras.tree.flatten(layer.cell.recurrent_weights)]
    projected = random.normal(size=(6, 3, layer.cell.kernel.shape[-1])).astype("float32")
    state = [random.normal(size=(3, 4)).astype("float32") for _ in layer.state_size]

    def loss(equations, projected, *rest):
        initial, weights = rest[: len(state)], rest[len(state) :]
        packed = weights if kind == "GRU" else weights[0]
        outputs, final = run_recurrence(equations, projected, initial, packed)
        return ops.sum(ops.sin(outputs)) + sum(ops.sum(ops.sin(f)) for f in final)

    by_hand = gradient(lambda *a: loss(equations, *a), projected, *state, *weights)
    automatic = gradient(lambda *a: loss(equations._replace(gates_gradient=None), *a), projected, *state, *weights)
    assert_all_close(by_hand, automatic, atol=2e-6)


@pytest.mark.every_backend
def test_gates_in_two_parts_equal_the_gates():
    """Also far from zero, where sigmoids are small, and in half precision."""
    cell = kseq.layers.LSTM(4).cell
    activated = cell.equations().activated
    sums = np.random.default_rng(7).normal(size=(50, 16), scale=6).astype("float32")
    state = [np.random.default_rng(8).normal(size=(50, 4)).astype("float32") for _ in range(2)]
    expected = cell.gates(sums, 0.0, tuple(state))
    # A few units in the last place of numbers near 1: backends and their versions round tanh differently.
    assert_all_close(list(activated.gates(activated.activate(sums), tuple(state))), list(expected), atol=5e-7)
    in_half = activated.activate(ops.cast(sums, "bfloat16"))
    rounded = 1 / (1 + np.exp(-np.asarray(ops.cast(ops.cast(sums, "bfloat16"), "float32"))))
    small = (np.arange(16) // 4 != 2) & (rounded > 1e-4)
    np.testing.assert_allclose(np.asarray(ops.cast(in_half, "float32"))[small], rounded[small], rtol=2**-8)


def test_gradients_of_a_users_own_are_not_passed_by():
    """A subclass that replaces only the gradient gets its own, not that of the inherited gates in two parts."""

    class Frozen(kseq.cells.LSTMCell):
        @property
        def gates_gradient(self):
            def zero(projected, recurrent, state, new_state, d_new):
                d_sum = ops.zeros_like(projected)
                return d_sum, d_sum, (None, ops.zeros_like(state[1])), ()

            return zero

    layer = kseq.layers.RNN(Frozen(4), return_sequences=True)
    x = np.random.default_rng(9).normal(size=(2, 3, 5)).astype("float32")
    layer.build(x.shape)
    _, gradients = outputs_and_gradients(layer, x, training=True)
    assert all(not np.any(np.asarray(g)) for g in gradients)


def test_gradients_do_not_depend_on_whether_residuals_were_kept():
    layer = kseq.layers.LSTM(4, return_sequences=True)
    x = np.random.default_rng(6).normal(size=(3, 6, 5)).astype("float32")
    layer.build(x.shape)
    kept = outputs_and_gradients(layer, x, training=True)
    computed_again = outputs_and_gradients(layer, x, training=False)
    assert_all_close(kept[0] + kept[1], computed_again[0] + computed_again[1], atol=1e-6)


@pytest.mark.every_backend
@pytest.mark.parametrize("shape", [(2, 1, 5), (0, 4, 5), (1, 7, 5)])
def test_one_step_no_rows_and_one_row(shape):
    layer = kseq.layers.GRU(4, return_sequences=True)
    layer.build(shape)
    x = np.ones(shape, "float32")
    assert layer(x).shape == (*shape[:2], 4)
    if shape[0]:
        assert compiled(lambda x: layer(x, training=True))(x).shape == (*shape[:2], 4)


@pytest.mark.long
def test_gradients_of_gate_weights_add_up_in_float32():
    """Each of 300 steps adds 1. In bfloat16 a sum of ones stops at 256."""
    equations = equations_of(lambda h, _: 0.0 * h, lambda p, r, s, weight: (p + r + weight,))

    def total(weight):
        zeros = [ops.zeros(shape, dtype="bfloat16") for shape in ((300, 1, 1), (1, 1), ())]
        outputs, _ = run_recurrence(equations, zeros[0], (zeros[1],), zeros[2], (weight,))
        return ops.sum(ops.cast(outputs, "float32"))

    (d_weight,) = gradient(total, ops.ones((1,), dtype="bfloat16"))
    np.testing.assert_array_equal(d_weight.astype("float32"), [300.0])


class LeakyLSTMCell(kseq.cells.LSTMCell):
    """A user's cell that inherits an LSTM's weights, but neither its gates nor the attributes that describe them."""

    def gates(self, projected, recurrent, state):
        hidden, cell = kseq.cells.LSTMCell.gates(self, projected, 2.0 * recurrent, state)
        return 0.5 * hidden, cell


class LoudGRUCell(kseq.cells.GRUCell):
    def project(self, inputs):
        return 2.0 * super().project(inputs)


class DoubledRNNCell(kseq.cells.SimpleRNNCell):
    def recur(self, hidden, recurrent_weights):
        return 2.0 * super().recur(hidden, recurrent_weights)


class SteppingLSTMCell(kseq.cells.LSTMCell):
    """Overrides `call`, so that `project`, `recur` and `gates` do not describe its step."""

    def call(self, inputs, states, training=False):
        output, states = super().call(inputs, states, training=training)
        return 0.5 * output, [0.5 * output, states[1]]


@pytest.mark.parametrize("cell_class", [LeakyLSTMCell, LoudGRUCell, DoubledRNNCell, SteppingLSTMCell])
def test_a_subclass_means_the_same_in_a_layer_and_step_by_step(cell_class):
    """Outputs and gradients; the parent's hand-written gradient of `gates` does not apply."""
    cell = cell_class(4)
    layers = [package.layers.RNN(cell, return_sequences=True) for package in (kseq, keras)]
    x = np.random.default_rng(4).normal(size=(3, 6, 5)).astype("float32")
    layers[0].build(x.shape)
    got, expected = (outputs_and_gradients(layer, x, training=True) for layer in layers)
    assert_all_close(got[0] + got[1], expected[0] + expected[1], atol=1e-5)
    plain = type(cell).__base__(4)
    plain.build((None, 5))
    for weight, value in zip(plain.weights, cell.weights, strict=True):
        weight.assign(value)
    assert np.abs(np.asarray(kseq.layers.RNN(plain, return_sequences=True)(x)) - got[0][0]).max() > 0.01


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_projection_of_rows_together_gets_all_rows_and_the_mask(wrapped):
    import tensorflow as tf

    seen = []

    class CentredLSTMCell(kseq.cells.LSTMCell):
        def equations(self, training=False):
            inner = super().equations(training)

            def project(inputs, mask):
                seen.append((inputs.shape, mask is not None))
                return inner.project(inputs - ops.mean(inputs, axis=-2, keepdims=True), mask)

            return inner._replace(project=project, projects_rows_apart=False)

    cell = CentredLSTMCell(4)
    layer = kseq.layers.RNN(kseq.cells.LearnedStateCell(cell) if wrapped else cell)
    x, mask = np.random.default_rng(0).normal(size=(4, 6, 5)).astype("float32"), np.ones((4, 6), bool)
    eager = layer(x, mask=mask, training=True)
    seen.clear()
    graph = tf.function(lambda x, mask: layer(x, mask=mask, training=True))(x, mask)
    assert seen == [((6, 4, 5), True)]
    np.testing.assert_allclose(graph, eager, atol=1e-6)


@pytest.mark.parametrize("name", ["projections", "drop_inputs", "projects_rows_apart", "recurrent_arguments"])
def test_hooks_of_earlier_versions_are_refused(name):
    """Nothing would call these methods, so the cell would run without their effect."""
    with pytest.raises(TypeError, match=rf"Old defines {name}, which .* Override equations\(self, training\)"):
        type("Old", (kseq.cells.LSTMCell,), {name: lambda self: None})


def test_equations_without_training_are_refused():
    with pytest.raises(
        TypeError, match=r"Old\.equations takes no argument training.*equations\(self, training=False\)"
    ):
        type("Old", (kseq.cells.LSTMCell,), {"equations": lambda self: None})


def test_no_time_steps_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 0, 5\), which has no time steps\. Give at least one"):
        kseq.layers.LSTM(4)(np.zeros((2, 0, 5), "float32"))


def test_gates_that_use_a_weight_of_their_own_are_told_how():
    class Scaled(MinimalCell):
        def build(self, input_shape):
            super().build(input_shape)
            self.scale = self.add_weight(shape=(4,), name="scale")

        def gates(self, projected, recurrent, state):
            return (ops.tanh((projected + recurrent) * self.scale),)

    layer = kseq.layers.RNN(Scaled(4))
    with pytest.raises(ValueError, match=r"Return the weights that a cell's gates use from gate_weights"):
        compiled(lambda x: layer(x, training=True))(np.zeros((2, 3, 5), "float32"))
