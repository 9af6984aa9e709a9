"""ZoneoutCell against its NumPy twin, in expectation and with drawn decisions."""

import numpy as np
import pytest
from keras import ops, tree

import kseq
from tests.reference import recurrence as twins
from tests.reference.wrapper_cells import run_zoneout
from tests.support import assert_all_close, compiled, outputs_and_gradients

BATCH, TIME, FEATURES, UNITS = 3, 6, 5, 4
RATES = [0.25, 0.6]
X = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)).astype("float32")


def make(rate=RATES, inner=None, seed=7):
    cell = kseq.cells.ZoneoutCell(inner or kseq.cells.LSTMCell(UNITS), rate, seed=seed)
    layer = kseq.layers.RNN(cell, return_sequences=True, return_state=True)
    layer.build(X.shape)
    random = np.random.default_rng(1)
    for weight in layer.trainable_weights:
        weight.assign(random.normal(size=weight.shape) / 2)
    return layer


def start_again(layer):
    layer.cell.seed_generator.state.assign([7, 0])


def drawn(layer, shape=X.shape):
    """The decisions of the next call with inputs of this shape: for each state bool `(batch, time, units)`."""
    start_again(layer)
    _, *kept = layer.cell.equations(True).project(np.zeros((shape[1], shape[0], shape[2]), "float32"), None)
    start_again(layer)
    return [np.transpose(np.asarray(k), (1, 0, 2)) for k in kept]


def zeros():
    return tuple(np.zeros((BATCH, UNITS), "float32") for _ in range(2))


def test_inference_is_the_expectation():
    layer = make()
    outputs, *final = layer(X)
    expected, expected_final = run_zoneout(twins.lstm_step, X, zeros(), RATES, layer.get_weights())
    assert_all_close([np.asarray(outputs), *map(np.asarray, final)], [expected, *expected_final], atol=1e-6)


@pytest.mark.every_backend
def test_training_keeps_what_was_drawn():
    layer = make()
    kept = drawn(layer)
    outputs, *final = layer(X, training=True)
    expected, expected_final = run_zoneout(twins.lstm_step, X, zeros(), kept, layer.get_weights()[:3])
    assert_all_close([np.asarray(outputs), *map(np.asarray, final)], [expected, *expected_final], atol=1e-6)


def test_decisions_have_their_rates_and_do_not_depend_on_each_other():
    layer = make()
    kept = [k.astype("float64") for k in drawn(layer, (64, 200, FEATURES))]
    for values, rate in zip(kept, RATES, strict=True):
        deviation = np.sqrt(rate * (1 - rate) / values.size)
        assert abs(values.mean() - rate) < 5 * deviation
    between = [
        (kept[0], kept[1]),  # the states
        (kept[0][:, 1:], kept[0][:, :-1]),  # steps
        (kept[1][1:], kept[1][:-1]),  # rows
        (kept[1][..., 1:], kept[1][..., :-1]),  # units
    ]
    for a, b in between:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(a.size)


def test_gradients_equal_those_of_the_steps_written_out():
    layer = make()
    kept = drawn(layer)
    got = outputs_and_gradients(layer, X, training=True)

    class WrittenOut:
        """The inner cell's own steps, followed by the drawn decisions."""

        trainable_weights = layer.trainable_weights
        trainable_variables = layer.trainable_variables

        def __call__(self, x):
            state, outputs = [ops.convert_to_tensor(s) for s in zeros()], []
            for time in range(TIME):
                _, new = layer.cell.cell(x[:, time], state)
                state = [ops.where(k[:, time], a, b) for k, a, b in zip(kept, state, new, strict=True)]
                outputs.append(state[0])
            return ops.stack(outputs, axis=1), *state

    expected = outputs_and_gradients(WrittenOut(), X)
    assert_all_close(got[0] + got[1], expected[0] + expected[1], atol=1e-5)


@pytest.mark.every_backend
def test_a_seed_gives_the_same_run_and_each_call_another():
    first, second = (make(seed=3) for _ in range(2))
    one, two = np.asarray(first(X, training=True)[0]), np.asarray(first(X, training=True)[0])
    np.testing.assert_array_equal(one, second(X, training=True)[0])
    assert not np.allclose(one, two)
    assert not np.allclose(one, make(seed=4)(X, training=True)[0])


@pytest.mark.long
def test_compiled_equals_eager():
    layer = make()
    start_again(layer)
    eager = [np.asarray(value) for value in layer(X, training=True)]
    start_again(layer)
    graph = compiled(lambda x: layer(x, training=True))(X)
    assert_all_close([np.asarray(value) for value in graph], eager, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
def test_the_ends_of_the_rate(training):
    never = make(0.0)
    plain = kseq.layers.RNN(never.cell.cell, return_sequences=True)
    np.testing.assert_allclose(never(X, training=training)[0], plain(X), atol=1e-6)
    state = [np.full((BATCH, UNITS), value, "float32") for value in (0.3, -0.7)]
    _, hidden, memory = make(1.0)(X, initial_state=state, training=training)
    np.testing.assert_array_equal(hidden, state[0])
    np.testing.assert_array_equal(memory, state[1])


def test_one_state_of_two():
    """Only the memory has zoneout, so the output is never an old one."""
    layer = make([0.0, 1.0])
    outputs, _, memory = layer(X, training=True)
    assert np.all(np.asarray(memory) == 0)
    assert np.all(np.diff(np.asarray(outputs), axis=1) != 0)


def test_around_a_cell_that_goes_step_by_step():
    layer = make(0.5, kseq.cells.GRUCell(UNITS, reset_after=False))
    assert not layer.cell.equations(True).separable
    outputs, gradients = outputs_and_gradients(layer, X, training=True)
    assert all(np.isfinite(value).all() for value in outputs + gradients)
    changed = np.mean(np.diff(outputs[0], axis=1) != 0)
    assert 0.25 < changed < 0.75
    state = np.zeros((BATCH, UNITS), "float32")
    for time in range(TIME):
        new = twins.gru_reset_before_step(X[:, time], (state,), *layer.get_weights()[:3])[0]
        state = (state + new) / 2
    np.testing.assert_allclose(layer(X)[1], state, atol=1e-6)


@pytest.mark.parametrize("rate", [1.5, -0.1, [0.1], [0.1, 0.2, 0.3]])
def test_a_wrong_rate_is_refused(rate):
    with pytest.raises(ValueError, match="LSTMCell has 2 states: give one rate from 0 to 1 for all, or a list of 2"):
        kseq.cells.ZoneoutCell(kseq.cells.LSTMCell(UNITS), rate)


def test_it_goes_inside_cells_that_take_steps_in_their_own_way():
    with pytest.raises(ValueError, match=r"Put ZoneoutCell inside: ResidualCell\(ZoneoutCell\(cell\)\)"):
        kseq.cells.ZoneoutCell(kseq.cells.ResidualCell(kseq.cells.LSTMCell(UNITS)), 0.1)


def test_it_does_not_go_around_cells_without_a_loop():
    with pytest.raises(ValueError, match=r"MinGRUCell is not run through project, recur and gates\. Use it around"):
        kseq.cells.ZoneoutCell(kseq.cells.MinGRUCell(UNITS), 0.1)


def test_config_keeps_the_rates():
    cell = make(RATES).cell
    again = type(cell).from_config(cell.get_config())
    assert again.get_config()["rate"] == RATES
    assert again.get_config()["seed"] == 7
    assert tree.flatten(again.rates) == RATES
