"""DropoutCell against its NumPy twin, with one mask for all steps, and against Keras's dropout with the same seeds."""

import keras
import numpy as np
import pytest

import kseq
from kseq.masking import mask_from_lengths
from tests.reference import recurrence as twins
from tests.reference.wrapper_cells import lstm_step_with_dropped_hidden
from tests.support import assert_all_close, compiled, outputs_and_gradients

BATCH, TIME, FEATURES, UNITS = 3, 6, 5, 4
LENGTHS = np.array([6, 3, 1])
RATES = {"input_dropout": 0.3, "recurrent_dropout": 0.4, "output_dropout": 0.5}
X = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)).astype("float32")


def make(inner=None, layer_class=kseq.layers.RNN, **options):
    cell = kseq.cells.DropoutCell(inner or kseq.cells.LSTMCell(UNITS), **{**RATES, "seed": 7, **options})
    layer = layer_class(cell, return_sequences=True, return_state=True)
    layer.build(X.shape)
    random = np.random.default_rng(1)
    layer.set_weights([random.normal(size=w.shape) / 2 for w in layer.get_weights()])
    return layer


def start_again(layer):
    layer.cell.seed_generator.state.assign([7, 0])
    forget(layer.cell)


def forget(cell):
    cell.reset_dropout_mask()
    cell.reset_recurrent_dropout_mask()


def drawn(layer):
    """The masks of the next call: of inputs `(batch, features)`, hidden state and outputs `(batch, units)`."""
    start_again(layer)
    cell = layer.cell
    inputs = cell.get_dropout_mask(X[:, 0])
    hidden = cell.get_recurrent_dropout_mask(X[:, 0])
    outputs = cell._drop_outputs(np.ones((BATCH, UNITS), "float32"), BATCH, training=True)
    start_again(layer)
    return [np.asarray(mask) for mask in (inputs, hidden, outputs)]


def test_a_seed_gives_the_same_masks_and_another_others():
    first, again, other = (np.asarray(make(seed=seed)(X, training=True)[0]) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.long_on_jax
def test_training_equals_the_twin_with_the_masks_that_were_drawn():
    layer = make()
    inputs_mask, hidden_mask, outputs_mask = drawn(layer)
    outputs, *final = layer(X, mask=mask_from_lengths(LENGTHS, TIME), training=True)
    for row, length in enumerate(LENGTHS):
        step = lstm_step_with_dropped_hidden(twins.lstm_step, hidden_mask[row])
        state = tuple(np.zeros((1, UNITS), "float32") for _ in range(2))
        dropped = X[row : row + 1] * inputs_mask[row]
        expected, expected_final = twins.run(step, dropped, [length], state, layer.get_weights())
        np.testing.assert_allclose(outputs[row, :length], (expected * outputs_mask[row])[0, :length], atol=1e-6)
        assert_all_close([np.asarray(f)[row] for f in final], [f[0] for f in expected_final], atol=1e-6)


def test_masks_have_their_rates_and_scale():
    cell = kseq.cells.DropoutCell(kseq.cells.GRUCell(200), **RATES, seed=1)
    masks = [cell.get_dropout_mask(np.ones((50, 100), "float32")), cell.get_recurrent_dropout_mask(np.ones((50, 1)))]
    for mask, rate in zip(map(np.asarray, masks), (0.3, 0.4), strict=True):
        np.testing.assert_allclose(np.unique(mask), [0, 1 / (1 - rate)], rtol=1e-6)
        assert abs(np.mean(mask == 0) - rate) < 5 * np.sqrt(rate * (1 - rate) / mask.size)


@pytest.mark.every_backend
def test_one_mask_for_all_steps_and_another_for_each_row_and_call():
    """A dropped output is zero at every step."""
    layer = make(input_dropout=0.0, recurrent_dropout=0.0)
    x = np.ones((16, TIME, FEATURES), "float32")
    zero = [np.asarray(layer(x, training=True)[0]) == 0 for _ in range(2)]
    assert np.all(zero[0] == zero[0][:, :1])
    assert 0 < zero[0].mean() < 1
    assert np.any(zero[0][0, 0] != zero[0][1:, 0])
    assert np.any(zero[0] != zero[1])


@pytest.mark.parametrize(("rates", "training"), [(RATES, False), (dict.fromkeys(RATES, 0.0), True)])
def test_without_dropout_it_is_the_inner_cell(rates, training):
    layer = make(**rates)
    plain = kseq.layers.RNN(layer.cell.cell, return_sequences=True, return_state=True)
    got = outputs_and_gradients(layer, X, training=training)
    expected = outputs_and_gradients(plain, X, training=training)
    # Not bitwise equal: on JAX at inference, the plain cell's inputs are projected step by step.
    assert_all_close(got[0] + got[1], expected[0] + expected[1], atol=1e-6)


def test_steps_by_hand_keep_the_masks_until_they_are_told_to_forget_them():
    layer = make()
    outputs = np.asarray(layer(X, training=True)[0])
    start_again(layer)

    def by_hand():
        state, steps = layer.cell.get_initial_state(BATCH), []
        for time in range(TIME):
            output, state = layer.cell(X[:, time], state, training=True)
            steps.append(np.asarray(output))
        return np.stack(steps, axis=1)

    first = by_hand()
    np.testing.assert_allclose(first, outputs, atol=1e-6)
    np.testing.assert_array_equal(by_hand(), first)
    forget(layer.cell)
    assert not np.allclose(by_hand(), first)
    forget(layer.cell)


@pytest.mark.parametrize("inner", ["GRUCell", "LSTMCell", "SimpleRNNCell"])
def test_an_inner_cell_with_dropout_of_its_own(inner):
    """The masks of both cells are drawn, in kseq's loop and in Keras's."""
    cells = [getattr(kseq.cells, inner)(UNITS, dropout=0.3, recurrent_dropout=0.4, seed=3) for _ in range(2)]
    if inner == "LSTMCell":  # in Keras's loop it takes Keras's step, with one kind of mask
        ours, theirs = (make(cell, kind, recurrent_dropout=0.0) for cell, kind in zip(cells, LAYERS, strict=True))
    else:
        ours, theirs = (make(cell, kind) for cell, kind in zip(cells, LAYERS, strict=True))
    got, expected = (outputs_and_gradients(layer, X, training=True) for layer in (ours, theirs))
    assert_all_close(got[0] + got[1], expected[0] + expected[1], atol=1e-5)


LAYERS = [kseq.layers.RNN, keras.layers.RNN]


@pytest.mark.long
def test_compiled_equals_eager():
    layer = make()
    start_again(layer)
    eager = [np.asarray(value) for value in layer(X, training=True)]
    start_again(layer)
    graph = compiled(lambda x: layer(x, training=True))(X)
    assert_all_close([np.asarray(value) for value in graph], eager, atol=1e-6)


def test_around_a_stack_inputs_and_outputs_are_dropped():
    stack = kseq.cells.StackedCells([kseq.cells.LSTMCell(7), kseq.cells.GRUCell(UNITS)])
    layer = make(stack, recurrent_dropout=0.0)
    inputs_mask, _, outputs_mask = drawn(layer)
    plain = kseq.layers.RNN(stack, return_sequences=True)
    expected = np.asarray(plain(X * inputs_mask[:, None])) * outputs_mask[:, None]
    np.testing.assert_allclose(layer(X, training=True)[0], expected, atol=1e-6)
    with pytest.raises(ValueError, match="DropoutCell around each cell for a stack"):
        kseq.cells.DropoutCell(stack, recurrent_dropout=0.1)


def test_a_step_that_cannot_be_taken_apart_is_refused():
    with pytest.raises(ValueError, match="GRUCell is not run through project, recur and gates"):
        kseq.cells.DropoutCell(kseq.cells.GRUCell(UNITS, reset_after=False), recurrent_dropout=0.1)


def test_a_wrong_rate_is_refused():
    with pytest.raises(ValueError, match=r"output_dropout=1.5, but for DropoutCell it is the share"):
        kseq.cells.DropoutCell(kseq.cells.GRUCell(UNITS), output_dropout=1.5)
