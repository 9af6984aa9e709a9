"""What every cell of `kseq.cells.__all__` keeps, run by `kseq.layers.RNN`. A new cell joins by its export line."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops, tree

import kseq
from kseq.masking import mask_from_lengths
from tests.support import BACKEND, assert_all_close, compiled, outputs_and_gradients

BATCH, TIME, FEATURES, UNITS = 3, 6, 5, 4
LENGTHS = np.array([6, 3, 1])
CELLS = [
    getattr(kseq.cells, name)
    for name in kseq.cells.__all__
    if inspect.isclass(getattr(kseq.cells, name)) and issubclass(getattr(kseq.cells, name), kseq.cells.Cell)
]
CELLS.remove(kseq.cells.Cell)
RATES = {  # of what wrappers do at random
    "ZoneoutCell": {"rate": 0.25},
    "DropoutCell": {"input_dropout": 0.25, "recurrent_dropout": 0.25, "output_dropout": 0.25},
}
ONE_BACKEND = pytest.mark.tensorflow  # enough for what the cell and the engine say in Keras's operations alone
# In training their steps mean something else than a whole sequence: other draws; averages that move later.
OTHER_IN_STEPS = {"ZoneoutCell", "BatchNormCell"}


@pytest.fixture(params=CELLS, ids=lambda cell: cell.__name__)
def cell_class(request):
    return request.param


@pytest.fixture
def x(cell_class):
    shape = (BATCH, TIME, *([6] * getattr(cell_class, "SPATIAL_RANK", 0)), FEATURES)
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def build_cell(cell_class, **options):
    """A small cell, from what its constructor takes first: `units`, a `cell`, or `cells`."""
    first = next(iter(inspect.signature(cell_class).parameters))
    if first == "cell":
        return cell_class(kseq.cells.LSTMCell(FEATURES, **options), **RATES.get(cell_class.__name__, {}), **options)
    if first == "cells":
        inner = [kseq.cells.LSTMCell(UNITS, **options), kseq.cells.GRUCell(FEATURES, **options)]
        return cell_class(inner, **options)
    return cell_class(UNITS, **options)


def make(cell_class, layer_class=None, **options):
    dtype = options.pop("dtype", None)
    layer_class = layer_class or kseq.layers.RNN
    cell = build_cell(cell_class, dtype=dtype)
    layer = layer_class(cell, return_sequences=True, return_state=True, dtype=dtype, **options)
    layer.build((None, None, *([6] * getattr(cell_class, "SPATIAL_RANK", 0)), FEATURES))
    random = np.random.default_rng(1)
    for weight in layer.trainable_weights:
        weight.assign(random.normal(size=weight.shape) / 2)
    return layer


def draw_again(layer):
    """Have what is random draw what it drew before."""
    for variable in layer.variables:
        if variable.name == "seed_generator_state":
            variable.assign([7, 0])


def trained(layer, x, **call):
    """Outputs and gradients in training, with the same draws each time."""
    draw_again(layer)
    return outputs_and_gradients(layer, x, training=True, **call)


@pytest.mark.parametrize("masked", [False, True])
def test_sequence_equals_steps(cell_class, x, masked):
    """Outputs, final states, and the gradients of inputs and weights: the engine against Keras's step-by-step loop."""
    if masked and BACKEND == "jax" and hasattr(cell_class, "SPATIAL_RANK"):
        pytest.skip("Keras's loop on JAX takes no mask for states of several axes.")
    # At padding Keras's loop on JAX answers with the first state, which is not every cell's output.
    options = {"zero_output_for_mask": BACKEND == "jax"}
    ours, theirs = make(cell_class, **options), make(cell_class, keras.layers.RNN, **options)
    mask = mask_from_lengths(LENGTHS, TIME) if masked else None
    draw_again(ours)
    draw_again(theirs)
    training = cell_class.__name__ not in OTHER_IN_STEPS
    got = outputs_and_gradients(ours, x, mask=mask, training=training)
    expected = outputs_and_gradients(theirs, x, mask=mask, training=training)
    assert_all_close(got[0], expected[0], atol=1e-6)
    assert_all_close(got[1], expected[1], atol=1e-5)


@ONE_BACKEND
def test_sequence_equals_explicit_steps(cell_class, x):
    layer = make(cell_class)
    outputs, *final = layer(x)
    state = layer.cell.get_initial_state(BATCH)
    for time in range(TIME):
        output, state = layer.cell(x[:, time], state)
        np.testing.assert_allclose(output, outputs[:, time], atol=1e-6)
    assert_all_close(list(map(np.asarray, final)), list(map(np.asarray, tree.flatten(state))), atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_automatic_gradients_equal_the_cells_own(cell_class, x, masked, monkeypatch):
    """Whatever gradients a cell writes by hand, against the engine's automatic ones of the same pieces."""
    layer = make(cell_class)
    mask = mask_from_lengths(LENGTHS, TIME) if masked else None
    own = trained(layer, x, mask=mask)
    plain = kseq.recurrence.recurrence

    def automatic(equations, *arguments, **options):
        return plain(equations._replace(gates_gradient=None, recur_gradient=None), *arguments, **options)

    monkeypatch.setattr(kseq.cells.cell, "recurrence", automatic)
    expected = trained(layer, x, mask=mask)
    assert_all_close(own[0] + own[1], expected[0] + expected[1], atol=1e-5)


@pytest.mark.tensorflow
def test_gradients_equal_central_differences(cell_class, x):
    """In float64, along one random direction of the inputs and weights together (JAX has float64 off by default)."""
    layer, mask = make(cell_class, dtype="float64"), mask_from_lengths(LENGTHS, TIME)
    random, step = np.random.default_rng(2), 1e-5
    _, gradients = trained(layer, x.astype("float64"), mask=mask)
    start = [x.astype("float64"), *map(np.asarray, layer.trainable_weights)]
    direction = [random.normal(size=value.shape) for value in start]

    def total(sign):
        moved = [value + sign * step * d for value, d in zip(start, direction, strict=True)]
        for weight, value in zip(layer.trainable_weights, moved[1:], strict=True):
            weight.assign(value)
        weights = np.random.default_rng(0)  # those of outputs_and_gradients
        draw_again(layer)
        outputs = tree.flatten(layer(moved[0], mask=mask, training=True))
        return sum(np.sum(np.asarray(o, "float64") * weights.normal(size=o.shape).astype("float32")) for o in outputs)

    slope = (total(1.0) - total(-1.0)) / (2 * step)
    along = sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True))
    np.testing.assert_allclose(along, slope, rtol=1e-6)


@ONE_BACKEND
def test_padding_never_changes_an_answer(cell_class, x):
    layer, mask = make(cell_class), mask_from_lengths(LENGTHS, TIME)
    poisoned = np.where(np.reshape(mask, (BATCH, TIME) + (1,) * (x.ndim - 2)), x, np.nan)
    clean, dirty = (trained(layer, values, mask=mask) for values in (x, poisoned))
    assert all(np.isfinite(value).all() for value in dirty[0] + dirty[1])
    assert_all_close(dirty[0] + dirty[1], clean[0] + clean[1], atol=0, rtol=0)


@ONE_BACKEND
def test_a_row_alone_equals_the_row_in_its_batch(cell_class, x):
    layer = make(cell_class)
    outputs, *final = layer(x, mask=mask_from_lengths(LENGTHS, TIME))
    for row, length in enumerate(LENGTHS):
        alone, *alone_final = layer(x[row : row + 1, :length])
        np.testing.assert_allclose(outputs[row, :length], alone[0], atol=1e-6)
        for value, expected in zip(final, alone_final, strict=True):
            np.testing.assert_allclose(value[row], expected[0], atol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("mixed_float16", 5e-3), ("mixed_bfloat16", 4e-2)])
def test_half_precision_is_near(cell_class, x, dtype, tolerance):
    """Six steps of numbers near 1: a few units in the last place, 2^-11 of float16 and 2^-8 of bfloat16."""
    exact, _ = trained(make(cell_class), x)
    layer = make(cell_class, dtype=dtype)
    draw_again(layer)
    outputs = layer(x, training=True)
    assert keras.backend.standardize_dtype(outputs[0].dtype) == dtype.removeprefix("mixed_")
    assert_all_close([np.asarray(ops.cast(o, "float32")) for o in outputs], exact, atol=tolerance)
    _, gradients = trained(layer, x)
    assert all(np.isfinite(g.astype("float32")).all() for g in gradients)


def test_compiled_equals_eager(cell_class, x):
    layer, mask = make(cell_class), mask_from_lengths(LENGTHS, TIME)
    eager = layer(x, mask=mask)
    graph = compiled(lambda values, m: layer(values, mask=m))(x, mask)
    assert_all_close(list(map(np.asarray, graph)), list(map(np.asarray, eager)), atol=1e-6)


@ONE_BACKEND
def test_saves_and_loads(cell_class, x, tmp_path):
    inputs = keras.Input((None, *x.shape[2:]))
    model = keras.Model(inputs, kseq.layers.RNN(build_cell(cell_class), return_sequences=True)(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[-1].cell) is cell_class
    np.testing.assert_array_equal(loaded(x), model(x))


@ONE_BACKEND
def test_config_round_trip(cell_class):
    cell = build_cell(cell_class, name="mine")
    again = cell_class.from_config(cell.get_config())
    assert again.get_config() == cell.get_config()


def test_works_in_keras_bidirectional_and_stacked(cell_class, x):
    one = kseq.layers.RNN(build_cell(cell_class), return_sequences=True)
    both = keras.layers.Bidirectional(one)
    *leading, units = one(x).shape
    assert both(x).shape == (*leading, 2 * units)
    assert isinstance(both.backward_layer.cell, cell_class)
    # Keras's stack takes no cell whose output has several axes.
    stacks = [list] if hasattr(cell_class, "SPATIAL_RANK") else [list, keras.layers.StackedRNNCells]
    for stack in stacks:
        cells = stack([build_cell(cell_class), build_cell(cell_class)])
        assert kseq.layers.RNN(cells, return_sequences=True)(x).shape == (*leading, units)


@pytest.mark.tensorflow
def test_a_graph_of_unknown_batch_and_time_equals_eager(cell_class, x):
    """Outputs and gradients; in a graph the engine treats rows in two groups, eagerly in one."""
    import tensorflow as tf

    layer, mask = make(cell_class), mask_from_lengths(LENGTHS, TIME)

    def run(values, mask):
        with tf.GradientTape() as tape:
            tape.watch(values)
            outputs = layer(values, mask=mask, training=True)
            total = sum(tf.reduce_sum(tf.sin(output)) for output in outputs)
        return [*outputs, *tape.gradient(total, [values, *layer.trainable_weights])]

    specs = [tf.TensorSpec([None, None, *x.shape[2:]]), tf.TensorSpec([None, None], tf.bool)]
    draw_again(layer)
    got = tf.function(run, input_signature=specs)(x, mask)
    draw_again(layer)
    expected = run(tf.constant(x), tf.constant(mask))
    assert_all_close([value.numpy() for value in got], [value.numpy() for value in expected], atol=5e-6, rtol=1e-5)


@ONE_BACKEND
def test_ten_thousand_steps_stay_finite(cell_class, x):
    layer = make(cell_class)
    outputs, *final = compiled(lambda values: layer(values))(np.ones((1, 10_000, *x.shape[2:]), "float32"))
    assert all(np.isfinite(np.asarray(value)).all() for value in (outputs, *final))
