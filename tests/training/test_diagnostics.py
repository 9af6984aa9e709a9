"""Diagnostics of recurrent layers, on recurrences whose answer is known."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.training import (
    bounded_input_response,
    fixed_points,
    gate_saturation,
    gradient_flow,
    memory_curve,
    recurrent_spectra,
    stability_map,
    state_jacobian_norms,
)


def linear(kernel, kind=kseq.layers.SimpleRNN, features=1):
    """A linear recurrence h' = x 1 + h U."""
    kernel = np.asarray(kernel, "float32")
    layer = kind(len(kernel), activation=None, use_bias=False)
    layer.build((None, None, features))
    layer.set_weights([np.ones((features, len(kernel))), kernel])
    return layer


def rotation(factor, angle=0.3):
    """A kernel with eigenvalues factor * exp(+- i angle)."""
    return factor * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def lstm_with_biases(input_gate, forget, output, kind=kseq.layers.LSTM):
    """An LSTM of 2 units whose gates depend on their biases alone."""
    layer = kind(2)
    layer.build((None, None, 3))
    kernel = np.random.default_rng(0).normal(size=(3, 8))
    kernel[:, [0, 1, 2, 3, 6, 7]] = 0.0
    layer.set_weights([kernel, np.zeros((2, 8)), np.repeat([input_gate, forget, 0.0, output], 2)])
    return layer


class CountedGates(kseq.cells.Cell):
    """A cell of no known kind, with a recurrent kernel of two parts."""

    def __init__(self):
        super().__init__()
        self.state_size = 2
        self.recurrent_activation = keras.activations.sigmoid

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 4), initializer="zeros")
        self.recurrent_kernel = self.add_weight(shape=(2, 4), initializer="zeros")

    def gates(self, projected, recurrent, state):
        a, b = ops.split(projected + recurrent, 2, axis=-1)
        return (self.recurrent_activation(a + 9.0) * b,)


@pytest.mark.every_backend
@pytest.mark.parametrize(("factor", "verdict"), [(0.9, "vanishes"), (1.0, "is kept"), (1.1, "explodes")])
def test_linear_recurrences_have_their_eigenvalues(factor, verdict):
    layer = linear(rotation(factor))
    (spectrum,) = recurrent_spectra(layer).values()
    np.testing.assert_allclose(spectrum.spectral_radius, factor, rtol=1e-6)
    np.testing.assert_allclose(np.abs(np.angle(spectrum.eigenvalues)), 0.3, rtol=1e-5)
    np.testing.assert_allclose(spectrum.singular_values, factor, rtol=1e-6)
    norms = state_jacobian_norms(layer, np.zeros((2, 80, 1), "float32"))
    np.testing.assert_allclose(norms, np.tile(factor ** np.arange(81.0), (2, 1)), rtol=1e-4)
    flow = gradient_flow(norms)
    assert flow.verdict == verdict
    np.testing.assert_allclose([flow.factor, flow.distance], [factor, 80], rtol=1e-5)


def test_rows_that_are_shorter_than_the_longest_distance_have_no_say_in_the_verdict():
    flow = gradient_flow(np.array([0.5 ** np.arange(21.0), [1.0, 1.0] + [np.nan] * 19]))
    assert (flow.verdict, flow.distance) == ("vanishes", 20)
    np.testing.assert_allclose(flow.factor, 0.5)
    with pytest.raises(ValueError, match="a distance of at least one step"):
        gradient_flow(np.ones((2, 1)))


def test_norms_grow_beyond_the_range_of_floats():
    norms = state_jacobian_norms(linear([[10.0]]), np.zeros((1, 60, 1), "float32"))
    np.testing.assert_allclose(norms[0], 10.0 ** np.arange(61), rtol=1e-4)


class TestSpectra:
    @pytest.mark.parametrize(
        ("cell", "gates"),
        [
            (kseq.cells.LSTMCell(2), ("input", "forget", "candidate", "output")),
            (keras.layers.LSTMCell(2), ("input", "forget", "candidate", "output")),
            (kseq.cells.CoupledLSTMCell(2), ("forget", "candidate", "output")),
            (kseq.cells.GRUCell(2), ("update", "reset", "candidate")),
            (CountedGates(), ("gate 1", "gate 2")),
        ],
        ids=lambda each: type(each).__name__,
    )
    def test_has_the_gates_in_the_order_of_the_kernel(self, cell, gates):
        cell.build((None, 3))
        cell.recurrent_kernel.assign(np.hstack([(1.0 + k) * np.eye(2) for k in range(len(gates))]))
        found = {path.split("/", 1)[-1]: each.spectral_radius for path, each in recurrent_spectra(cell).items()}
        assert found == {gate: k + 1.0 for k, gate in enumerate(gates)}

    def test_finds_all_cells_of_a_model_once(self):
        inputs = keras.Input((None, 2))
        stack = kseq.layers.StackedRNN([kseq.layers.GRU(3), kseq.layers.RNN(kseq.cells.MinGRUCell(3))])
        model = keras.Model(inputs, kseq.layers.Bidirectional(stack)(inputs))
        found = recurrent_spectra(model)
        assert len(found) == 6  # three gates in each direction; MinGRU has no recurrent kernel
        assert all(len(each.eigenvalues) == 3 for each in found.values())

    def test_rectangular_kernels_have_singular_values_only(self):
        cell = kseq.cells.ProjectionLSTMCell(4, projection_units=2)
        cell.build((None, 3))
        for each in recurrent_spectra(cell).values():
            assert len(each.singular_values) == 2
            assert not each.eigenvalues.size
            assert np.isnan(each.spectral_radius)

    def test_layers_without_a_kernel_are_refused(self):
        with pytest.raises(ValueError, match="no recurrent kernel that is a matrix"):
            recurrent_spectra(keras.layers.Dense(3))


class TestNorms:
    @pytest.mark.parametrize("kind", [kseq.layers.LSTM, keras.layers.LSTM])
    def test_an_open_forget_gate_keeps_the_memory(self, kind):
        for forget in (20.0, 0.0):
            layer = lstm_with_biases(0.0, forget, 0.0, kind)
            inputs = np.random.default_rng(0).normal(size=(2, 30, 3)).astype("float32")
            norms = state_jacobian_norms(layer, inputs, state=1)
            open_by = 1.0 / (1.0 + np.exp(-forget))
            np.testing.assert_allclose(norms, np.tile(open_by ** np.arange(31.0), (2, 1)), rtol=1e-4)

    def test_are_those_of_the_whole_jacobian(self):
        """The product of the steps' Jacobians equals the derivative of the layer itself, by finite differences."""
        layer = kseq.layers.LSTM(2, return_state=True, seed=1)
        inputs = np.random.default_rng(1).normal(size=(1, 5, 3)).astype("float32")
        layer.build(inputs.shape)
        start = [np.full((1, 2), value, "float32") for value in (0.2, -0.3)]

        def final(flat):
            return np.concatenate(
                [ops.convert_to_numpy(each)[0] for each in layer(inputs, initial_state=np.split(flat, 2, axis=1))[1:]]
            )

        flat = np.concatenate(start, axis=1)
        columns = [(final(flat + step) - final(flat - step)) / 0.02 for step in 0.01 * np.eye(4, dtype="float32")]
        norms = state_jacobian_norms(layer, inputs, initial_state=start)
        np.testing.assert_allclose(norms[0, 5], np.linalg.norm(np.stack(columns, axis=1), 2), rtol=2e-3)

    def test_padding_does_not_count(self):
        layer = kseq.layers.GRU(3)
        inputs = np.random.default_rng(0).normal(size=(2, 6, 2)).astype("float32")
        inputs[1, 4:] = np.nan
        layer.build(inputs.shape)
        norms = state_jacobian_norms(layer, inputs, mask=np.arange(6) < np.array([[6], [4]]))
        alone = state_jacobian_norms(layer, inputs[1:, :4])
        np.testing.assert_allclose(norms[1, :5], alone[0], rtol=1e-5)
        assert np.isnan(norms[1, 5:]).all()
        assert np.isfinite(norms[0]).all()

    def test_backward_layers_run_from_the_last_step(self):
        forward, backward = (kseq.layers.SimpleRNN(2, go_backwards=flag) for flag in (False, True))
        inputs = np.random.default_rng(0).normal(size=(1, 4, 2)).astype("float32")
        for layer in (forward, backward):
            layer.build(inputs.shape)
            layer.set_weights([np.eye(2), np.eye(2), np.zeros(2)])
        flipped = state_jacobian_norms(backward, inputs[:, ::-1])
        np.testing.assert_allclose(flipped, state_jacobian_norms(forward, inputs), rtol=1e-6)
        assert not np.allclose(flipped, state_jacobian_norms(backward, inputs))

    @pytest.mark.parametrize(
        ("layer", "options", "message"),
        [
            (keras.layers.Dense(2), {}, "is a Dense, but expected a recurrent layer"),
            (kseq.layers.GRU(2), {}, "has no weights yet"),
            (linear([[1.0]]), {"state": 1}, "state=1, but SimpleRNNCell has 1 state tensors"),
            (linear([[1.0]]), {"mask": np.ones((1, 2), bool)}, r"mask has shape \(1, 2\), but .* \(1, 3\)"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, layer, options, message):
        with pytest.raises(ValueError, match=message):
            state_jacobian_norms(layer, np.zeros((1, 3, 1), "float32"), **options)


class TestMemory:
    def test_of_a_leaky_integrator_is_geometric(self):
        curve = memory_curve(linear([[0.8]]), longest=6)
        np.testing.assert_allclose(curve.recovered, 0.8 ** (2 * np.arange(1, 7)) * (1 - 0.8**2), atol=0.025)
        np.testing.assert_allclose(curve.capacity, 0.64 * (1 - 0.8**12), atol=0.05)

    @pytest.mark.parametrize("backwards", [False, True])
    def test_of_a_delay_line_is_its_length(self, backwards):
        layer = linear(np.eye(4, k=1))
        layer.cell.kernel.assign([[1.0, 0.0, 0.0, 0.0]])
        layer.go_backwards = backwards
        np.testing.assert_allclose(memory_curve(layer, longest=5).recovered, [1, 1, 1, 0, 0], atol=0.01)

    def test_needs_samples_and_features(self):
        with pytest.raises(ValueError, match="samples=10, but the state has 3 elements, for which at least 12"):
            memory_curve(linear(np.eye(3)), samples=10)
        with pytest.raises(ValueError, match="longest=0"):
            memory_curve(linear(np.eye(3)), longest=0)


class TestSaturation:
    @pytest.mark.parametrize("kind", [kseq.layers.LSTM, keras.layers.LSTM])
    def test_names_the_gate_of_an_lstm(self, kind):
        inputs = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
        found = gate_saturation(lstm_with_biases(-9.0, 9.0, 0.0, kind), inputs)
        assert set(found) == {"input", "forget", "output", "candidate", "memory"}
        ends = {name: (each.low.mean(), each.high.mean()) for name, each in found.items()}
        assert ends["input"] == (1.0, 0.0)
        assert ends["forget"] == (0.0, 1.0)
        assert ends["output"] == ends["memory"] == (0.0, 0.0)
        assert 0.0 < found["candidate"].share < 1.0

    @pytest.mark.parametrize("kind", [kseq.layers.GRU, keras.layers.GRU])
    def test_names_the_gate_of_a_gru(self, kind):
        layer = kind(2)
        layer.build((None, None, 3))
        layer.cell.bias.assign(np.repeat([[9.0, -9.0, 0.0], [0.0] * 3], 2, axis=1))
        found = gate_saturation(layer, np.zeros((1, 4, 3), "float32"))
        assert [found[name].high.mean() for name in ("update", "reset", "candidate")] == [1.0, 0.0, 0.0]
        assert found["reset"].low.mean() == 1.0

    def test_numbers_the_gates_of_other_cells_and_leaves_them_as_they_were(self):
        layer = kseq.layers.RNN(CountedGates())
        layer.build((None, None, 3))
        found = gate_saturation(layer, np.zeros((1, 4, 3), "float32"))
        assert {name: each.share for name, each in found.items()} == {"recurrent_activation 1": 1.0}
        assert layer.cell.recurrent_activation is keras.activations.sigmoid

    def test_padding_does_not_count(self):
        layer = linear([[0.0]])
        layer.cell.activation = keras.activations.tanh
        inputs = np.array([[[9.0], [0.0], [9.0]]], "float32")
        found = gate_saturation(layer, inputs, mask=np.array([[True, True, False]]))
        assert found["hidden"].high.tolist() == [0.5]

    def test_unbounded_activations_are_refused(self):
        with pytest.raises(ValueError, match="applies no recurrent_activation or activation that is one of"):
            gate_saturation(linear([[1.0]]), np.zeros((1, 2, 1), "float32"))


class TestBoundedInputs:
    @pytest.mark.long
    @pytest.mark.parametrize(
        ("kernel", "bounded"),
        [([[0.9]], True), ([[1.0]], False), ([[-1.0]], False), (rotation(0.9), True), (rotation(1.1), False)],
    )
    def test_tell_whether_a_linear_recurrence_is_stable(self, kernel, bounded):
        assert bounded_input_response(linear(kernel), steps=80, rows=2).bounded == bounded

    def test_find_the_resonance_of_a_rotation(self):
        """No constant or random input makes it grow like the signs of the gradient do."""
        response = bounded_input_response(linear(rotation(1.0, 1.0)), steps=100, rows=2)
        assert not response.bounded
        assert response.peaks[-1] > 50

    @pytest.mark.every_backend
    def test_reach_the_sum_of_the_impulse_response(self):
        response = bounded_input_response(linear([[0.5]]), bound=3.0, steps=30, rows=1)
        np.testing.assert_allclose(response.peaks[-1], 6.0, rtol=1e-5)


class TestOneNeuron:
    @pytest.mark.parametrize(
        ("activation", "weight", "bias", "expected"),
        [
            ("tanh", 2.0, 0.0, [(-0.957504, True), (0.0, False), (0.957504, True)]),
            ("tanh", 0.5, 0.0, [(0.0, True)]),
            ("tanh", -2.0, 0.0, [(0.0, False)]),  # it oscillates
            ("sigmoid", 8.0, -4.0, [(0.021249, True), (0.5, False), (0.978751, True)]),
            ("relu", 0.5, 1.0, [(2.0, True)]),
            ("relu", 2.0, -1.0, [(0.0, True), (1.0, False)]),
            ("linear", 0.9, 1.0, [(10.0, True)]),
            ("linear", 1.0, 0.0, [(0.0, False)]),
            ("linear", 1.0, 1.0, []),
            ("softsign", 2.0, 0.0, [(-0.5, True), (0.0, False), (0.5, True)]),
        ],
    )
    def test_has_these_fixed_points(self, activation, weight, bias, expected):
        found = fixed_points(weight, bias, activation)
        np.testing.assert_allclose([point.value for point in found], [value for value, _ in expected], atol=2e-6)
        assert [point.stable for point in found] == [stable for _, stable in expected]
        for point in found:
            step = 1e-3  # the slope is what a small deviation is multiplied by
            near = keras.activations.get(activation)(ops.convert_to_tensor([weight * (point.value + step) + bias]))
            assert abs((float(near[0]) - point.value) / step - point.slope) < 0.01 or activation == "relu"

    @pytest.mark.long_on_jax
    def test_map_counts_them(self):
        weights, biases = np.array([-2.0, 0.5, 1.0, 2.0]), np.array([0.0, 2.0])
        found = stability_map(weights, biases)
        assert found.stable.tolist() == [[0, 0], [1, 1], [0, 1], [2, 1]]
        assert found.unstable.tolist() == [[1, 1], [0, 0], [1, 0], [1, 0]]
        for row, weight in enumerate(weights):
            for column, bias in enumerate(biases):
                points = fixed_points(weight, bias)
                assert found.stable[row, column] == sum(point.stable for point in points)
        with pytest.raises(ValueError, match="must be \\(n,\\)"):
            stability_map(np.zeros((2, 2)), biases)
