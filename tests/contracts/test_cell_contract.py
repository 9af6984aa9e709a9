"""The contract of cells in use: steps, precision, compilation, serialisation, and Keras's own layers around a cell."""

import keras
import numpy as np
import pytest
from keras import ops, tree

import kseq
from kseq.backend import vector_jacobian_product
from kseq.masking import mask_from_lengths
from tests.contracts.cells import BATCH, LENGTHS, ONE_A_PATH, TIME, build_cell, draw_again, make, trained
from tests.support import assert_all_close, compiled


def test_sequence_equals_explicit_steps(cell_class, x):
    layer = make(cell_class)
    outputs, *final = layer(x)
    state = layer.cell.get_initial_state(BATCH)
    for time in range(TIME):
        output, state = layer.cell(x[:, time], state)
        np.testing.assert_allclose(output, outputs[:, time], atol=1e-6)
    assert_all_close(list(map(np.asarray, final)), list(map(np.asarray, tree.flatten(state))), atol=1e-6)


def test_a_row_alone_equals_the_row_in_its_batch(cell_class, x):
    layer = make(cell_class)
    outputs, *final = layer(x, mask=mask_from_lengths(LENGTHS, TIME))
    for row, length in enumerate(LENGTHS):
        alone, *alone_final = layer(x[row : row + 1, :length])
        np.testing.assert_allclose(outputs[row, :length], alone[0], atol=1e-6)
        for value, expected in zip(final, alone_final, strict=True):
            np.testing.assert_allclose(value[row], expected[0], atol=1e-6)


@pytest.mark.mostly_long("SimpleRNNCell", "GRUCell", "LSTMCell", "MinGRUCell", "StackedCells", "DropoutCell")
@pytest.mark.parametrize(("dtype", "tolerance"), [("mixed_float16", 5e-3), ("mixed_bfloat16", 4e-2)])
def test_half_precision_is_near(cell_class, x, dtype, tolerance):
    """Six steps with values near 1: errors are a few units in the last place, 2^-11 of float16 and 2^-8 of bfloat16.

    Gradients differ in size and accumulate the errors of all steps: their errors are measured relative to their norms.
    """
    exact, exact_gradients = trained(make(cell_class), x)
    layer = make(cell_class, dtype=dtype)
    draw_again(layer)
    outputs = layer(x, training=True)
    assert keras.backend.standardize_dtype(outputs[0].dtype) == dtype.removeprefix("mixed_")
    assert_all_close([np.asarray(ops.cast(o, "float32")) for o in outputs], exact, atol=tolerance)
    _, gradients = trained(layer, x)
    for gradient, expected in zip(gradients, exact_gradients, strict=True):
        distance = np.linalg.norm(gradient.astype("float32") - expected) / np.linalg.norm(expected)
        assert distance < tolerance


@pytest.mark.mostly_long("GRUCell", "LSTMCell", "SimpleRNNCell", "MinGRUCell")
@pytest.mark.long_on_jax("GRUCell", "LSTMCell")
def test_compiled_equals_eager(cell_class, x):
    layer, mask = make(cell_class), mask_from_lengths(LENGTHS, TIME)
    eager = layer(x, mask=mask)
    graph = compiled(lambda values, m: layer(values, mask=m))(x, mask)
    assert_all_close(list(map(np.asarray, graph)), list(map(np.asarray, eager)), atol=1e-6)


def test_saves_and_loads(cell_class, x, tmp_path):
    inputs = keras.Input((None, *x.shape[2:]))
    model = keras.Model(inputs, kseq.layers.RNN(build_cell(cell_class), return_sequences=True)(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[-1].cell) is cell_class
    np.testing.assert_array_equal(loaded(x), model(x))


def test_config_round_trip(cell_class):
    cell = build_cell(cell_class, name="mine")
    again = cell_class.from_config(cell.get_config())
    assert again.get_config() == cell.get_config()


@pytest.mark.long
def test_works_in_keras_bidirectional_and_stacked(cell_class, x):
    one = kseq.layers.RNN(build_cell(cell_class), return_sequences=True)
    both = keras.layers.Bidirectional(one)
    *leading, units = one(x).shape
    assert both(x).shape == (*leading, 2 * units)
    assert isinstance(both.backward_layer.cell, cell_class)
    # Keras's StackedRNNCells refuses cells whose output has several axes.
    stacks = [list] if hasattr(cell_class, "SPATIAL_RANK") else [list, keras.layers.StackedRNNCells]
    for stack in stacks:
        cells = stack([build_cell(cell_class), build_cell(cell_class)])
        assert kseq.layers.RNN(cells, return_sequences=True)(x).shape == (*leading, units)


@pytest.mark.long
@pytest.mark.parametrize("cell_class", ONE_A_PATH, ids=lambda cell: cell.__name__)
def test_ten_thousand_steps_stay_finite_and_so_do_their_gradients(cell_class, x):
    layer = make(cell_class)

    def outputs_and_gradient(values):
        outputs, pullback = vector_jacobian_product(lambda v: tuple(layer(v, training=True)), values)
        return [*outputs, *pullback(outputs)]

    values = compiled(outputs_and_gradient)(np.ones((1, 10_000, *x.shape[2:]), "float32"))
    assert all(np.isfinite(np.asarray(value)).all() for value in values)
