"""The contract of cells in training: sequences equal steps, gradients are right, padding changes nothing."""

import keras
import numpy as np
import pytest
from keras import tree

from kseq.engine import runner
from kseq.masking import mask_from_lengths
from tests.contracts.cells import BATCH, CELLS, LENGTHS, ONE_A_PATH, TIME, draw_again, make, trained
from tests.support import BACKEND, assert_all_close, outputs_and_gradients

# In training, single steps of these cells differ from whole sequences: they draw other random numbers, or update
# averages later. So Keras's step-by-step loop is no reference for them; their gradients are compared with automatic and
# numerical ones.
OTHER_IN_STEPS = {"ZoneoutCell", "BatchNormCell"}
without_reference = pytest.mark.parametrize(
    "cell_class", [cell for cell in CELLS if cell.__name__ in OTHER_IN_STEPS], ids=lambda cell: cell.__name__
)
# Gradients of convolutions sum hundreds of terms to values of about 10, with float32 rounding errors.
ROUNDING = {"atol": 1e-5, "rtol": 5e-6}


@pytest.mark.mostly_long("SimpleRNNCell", "GRUCell", "LSTMCell", "MinGRUCell", "StackedCells", "DropoutCell")
@pytest.mark.parametrize("masked", [False, pytest.param(True, marks=pytest.mark.long_on_jax("GRUCell", "LSTMCell"))])
def test_sequence_equals_steps(cell_class, x, masked):
    """Compare outputs, final states and gradients of the engine with those of Keras's step-by-step loop."""
    if masked and BACKEND == "jax" and hasattr(cell_class, "SPATIAL_RANK"):
        pytest.skip("Keras's loop on JAX takes no mask for states of several axes.")
    # In the padding, Keras's loop on JAX returns the first state, which is not the output of every cell.
    options = {"zero_output_for_mask": BACKEND == "jax"}
    ours, theirs = make(cell_class, **options), make(cell_class, keras.layers.RNN, **options)
    mask = mask_from_lengths(LENGTHS, TIME) if masked else None
    draw_again(ours)
    draw_again(theirs)
    training = cell_class.__name__ not in OTHER_IN_STEPS
    got = outputs_and_gradients(ours, x, mask=mask, training=training)
    expected = outputs_and_gradients(theirs, x, mask=mask, training=training)
    assert_all_close(got[0], expected[0], atol=1e-6)
    assert_all_close(got[1], expected[1], **ROUNDING)


@without_reference
def test_automatic_gradients_equal_the_cells_own(cell_class, x, monkeypatch):
    """Compare hand-written gradients of a cell with automatic ones of the same functions."""
    layer, mask = make(cell_class), mask_from_lengths(LENGTHS, TIME)
    own = trained(layer, x, mask=mask)
    plain = runner.Recurrence

    def automatic(equations, *arguments, **options):
        return plain(equations._replace(gates_gradient=None, recur_gradient=None), *arguments, **options)

    monkeypatch.setattr(runner, "Recurrence", automatic)
    expected = trained(layer, x, mask=mask)
    assert_all_close(own[0] + own[1], expected[0] + expected[1], **ROUNDING)


@without_reference
def test_gradients_equal_central_differences(cell_class, x):
    """In float64, along one random direction of inputs and weights (on TensorFlow: JAX has no float64 by default)."""
    layer, mask = make(cell_class, dtype="float64"), mask_from_lengths(LENGTHS, TIME)
    random, step = np.random.default_rng(2), 1e-5
    _, gradients = trained(layer, x.astype("float64"), mask=mask)
    start = [x.astype("float64"), *map(np.asarray, layer.trainable_weights)]
    direction = [random.normal(size=value.shape) for value in start]

    def total(sign):
        moved = [value + sign * step * d for value, d in zip(start, direction, strict=True)]
        for weight, value in zip(layer.trainable_weights, moved[1:], strict=True):
            weight.assign(value)
        weights = np.random.default_rng(0)  # the output weights of outputs_and_gradients
        draw_again(layer)
        outputs = tree.flatten(layer(moved[0], mask=mask, training=True))
        return sum(np.sum(np.asarray(o, "float64") * weights.normal(size=o.shape).astype("float32")) for o in outputs)

    slope = (total(1.0) - total(-1.0)) / (2 * step)
    along = sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True))
    np.testing.assert_allclose(along, slope, rtol=1e-6)


@pytest.mark.mostly_long("SimpleRNNCell", "GRUCell", "LSTMCell", "MinGRUCell", "StackedCells", "DropoutCell")
def test_padding_never_changes_an_answer(cell_class, x):
    layer, mask = make(cell_class), mask_from_lengths(LENGTHS, TIME)
    poisoned = np.where(np.reshape(mask, (BATCH, TIME) + (1,) * (x.ndim - 2)), x, np.nan)
    clean, dirty = (trained(layer, values, mask=mask) for values in (x, poisoned))
    assert all(np.isfinite(value).all() for value in dirty[0] + dirty[1])
    assert_all_close(dirty[0] + dirty[1], clean[0] + clean[1], atol=0, rtol=0)


@pytest.mark.long
@pytest.mark.parametrize("cell_class", ONE_A_PATH, ids=lambda cell: cell.__name__)
def test_a_graph_of_unknown_batch_and_time_equals_eager(cell_class, x):
    """Compare outputs and gradients; a graph runs the rows in two groups, eager code in one."""
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
    got = tf.function(run, input_signature=specs, autograph=False)(x, mask)
    draw_again(layer)
    expected = run(tf.constant(x), tf.constant(mask))
    assert_all_close([value.numpy() for value in got], [value.numpy() for value in expected], atol=5e-6, rtol=1e-5)
