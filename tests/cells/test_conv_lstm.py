"""Convolutional LSTM: against its NumPy twin and `keras.layers.ConvLSTM1D` and `ConvLSTM2D` with the same weights."""

import keras
import numpy as np
import pytest

import kseq
from tests.reference.conv_lstm import conv_lstm_step
from tests.support import assert_all_close, compiled, keras_may_lose_masks, outputs_and_gradients

pytestmark = keras_may_lose_masks
BATCH, TIME, CHANNELS, FILTERS = 2, 4, 3, 2
SPATIAL = {1: (6,), 2: (5, 4)}
MASK = np.arange(TIME)[None] < np.array([[4], [2]])


def signals(rank):
    return np.random.default_rng(0).normal(size=(BATCH, TIME, *SPATIAL[rank], CHANNELS)).astype("float32")


def pair(rank, kernel_size=3, *, padding="same", **options):
    """Keras's layer and ours over the cell, with the same random weights."""
    layer_options = {name: options.pop(name) for name in ("return_sequences", "go_backwards") if name in options}
    keras_class = getattr(keras.layers, f"ConvLSTM{rank}D")
    theirs = keras_class(FILTERS, kernel_size, padding=padding, return_state=True, **options, **layer_options)
    cell = kseq.cells.ConvLSTMCell(FILTERS, kernel_size, rank, padding=padding, **options)
    ours = kseq.layers.RNN(cell, return_state=True, **layer_options)
    for layer in (theirs, ours):
        layer.build((None, TIME, *SPATIAL[rank], CHANNELS))
    random = np.random.default_rng(1)
    weights = [random.normal(size=w.shape) / 2 for w in theirs.get_weights()]
    for layer in (theirs, ours):
        layer.set_weights(weights)
    return theirs, ours


@pytest.mark.long_on_jax
@pytest.mark.parametrize("rank", [1, 2])
def test_equals_its_numpy_twin(rank):
    _, layer = pair(rank, return_sequences=True)
    x, state = signals(rank), [np.zeros((BATCH, *SPATIAL[rank], FILTERS))] * 2
    outputs, *finals = layer(x)
    for row in range(BATCH):
        current = tuple(s[row] for s in state)
        for time in range(TIME):
            current = conv_lstm_step(x[row, time], current, *layer.get_weights())
            np.testing.assert_allclose(outputs[row, time], current[0], atol=1e-5)
        assert_all_close([np.asarray(f)[row] for f in finals], list(current), atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("rank", "options"),
    [
        (1, {"return_sequences": True}),
        (1, {"kernel_size": 2, "strides": 2, "padding": "valid", "use_bias": False}),
        (1, {"dilation_rate": 2, "padding": "valid", "return_sequences": True, "recurrent_activation": "hard_sigmoid"}),
        (2, {"return_sequences": True}),
        (2, {"kernel_size": (3, 2), "return_sequences": True, "go_backwards": True}),
        (2, {"strides": (2, 1), "activation": "relu", "unit_forget_bias": False}),
    ],
    ids=str,
)
def test_equals_keras(rank, options, masked):
    if masked and options.get("go_backwards"):
        pytest.skip("Keras differs where padding comes first.")
    theirs, ours = pair(rank, **options)
    mask = MASK if masked else None
    got = outputs_and_gradients(ours, signals(rank), mask=mask, training=True)
    expected = outputs_and_gradients(theirs, signals(rank), mask=mask, training=True)
    assert_all_close(got[0], expected[0], atol=1e-5)
    assert_all_close(got[1], expected[1], atol=1e-4)


@pytest.mark.parametrize("rank", [1, 2])
def test_weights_have_keras_names_shapes_and_order(rank):
    theirs, ours = pair(rank)
    assert [(w.name, tuple(w.shape)) for w in ours.weights] == [(w.name, tuple(w.shape)) for w in theirs.weights]
    fresh = kseq.cells.ConvLSTMCell(FILTERS, rank=rank)
    fresh.build((None, *SPATIAL[rank], CHANNELS))
    np.testing.assert_array_equal(fresh.bias, [0] * FILTERS + [1] * FILTERS + [0] * 2 * FILTERS)


def test_the_rank_follows_from_the_kernel():
    assert kseq.cells.ConvLSTMCell(4).rank == kseq.cells.ConvLSTMCell.SPATIAL_RANK == 2
    assert kseq.cells.ConvLSTMCell(4, (3,)).rank == 1
    assert kseq.cells.ConvLSTMCell(4, 3, 1).rank == 1
    with pytest.raises(ValueError, match="kernel_size"):
        kseq.cells.ConvLSTMCell(4, (3, 3), 1)


def test_sizes_are_known_from_the_build():
    cell = kseq.cells.ConvLSTMCell(FILTERS, 3, strides=2, padding="valid")
    assert cell.output_size == (None, None, FILTERS)
    with pytest.raises(ValueError, match="only support static"):
        kseq.layers.RNN(cell).build((None, None, 7, None, 3))
    cell = kseq.cells.ConvLSTMCell(FILTERS, 3, strides=2, padding="valid")
    layer = kseq.layers.RNN(cell, return_sequences=True, return_state=True)
    layer.build((None, None, 7, 5, 3))
    assert cell.state_size == layer.state_size == [(3, 2, FILTERS)] * 2
    assert layer.compute_output_shape((8, 10, 7, 5, 3)) == ((8, 10, 3, 2, FILTERS), *[(8, 3, 2, FILTERS)] * 2)


@pytest.mark.long
def test_functional_model_trains_and_is_saved(tmp_path):
    rank = 2
    inputs = keras.Input((None, *SPATIAL[rank], CHANNELS))
    cell = kseq.cells.ConvLSTMCell(FILTERS, rank=rank, dropout=0.1)
    values, *states = kseq.layers.Bidirectional(kseq.layers.RNN(cell, return_state=True))(inputs)
    assert values.shape == (None, *SPATIAL[rank], 2 * FILTERS)
    assert [s.shape for s in states] == [(None, *SPATIAL[rank], FILTERS)] * 4
    model = keras.Model(inputs, values)
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=keras.backend.backend() == "jax")
    x, y = signals(rank), np.ones((BATCH, *SPATIAL[rank], 2 * FILTERS))
    losses = model.fit(x, y, epochs=10, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)


def test_stateful_pieces_equal_the_whole():
    _, whole = pair(2)
    x = signals(2)
    stateful = kseq.layers.RNN(kseq.cells.ConvLSTMCell(FILTERS), stateful=True, return_state=True)
    stateful.build((BATCH, None, *SPATIAL[2], CHANNELS))
    stateful.set_weights(whole.get_weights())
    stateful(x[:, :3], mask=MASK[:, :3])
    assert_all_close(*[[np.asarray(o) for o in outputs] for outputs in (
        stateful(x[:, 3:], mask=MASK[:, 3:]), whole(x, mask=MASK))], atol=1e-6)  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("options", [{"dropout": 0.5}, {"recurrent_dropout": 0.5}], ids=str)
def test_dropout_is_one_mask_for_each_gate_and_acts_in_training_only(options):
    x = signals(2)
    layer = kseq.layers.RNN(kseq.cells.ConvLSTMCell(FILTERS, seed=1, **options), return_sequences=True)
    np.testing.assert_array_equal(layer(x), layer(x))
    run = compiled(lambda values: layer(values, training=True)) if keras.backend.backend() == "tensorflow" else None
    first, second = (np.asarray(run(x) if run else layer(x, training=True)) for _ in range(2))
    assert not np.allclose(first, second)
    _, gradients = outputs_and_gradients(layer, x, training=True)
    assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("options", [{"dropout": 0.5}, {"recurrent_dropout": 0.5}], ids=str)
def test_dropout_equals_keras_with_the_same_seed(options):
    theirs, ours = pair(2, return_sequences=True, seed=5, **options)
    x = signals(2)
    assert_all_close(*[[np.asarray(o) for o in layer(x, training=True)] for layer in (ours, theirs)], atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("rank", [1, 2])
def test_gradients_compile_for_unknown_batch_and_time(rank):
    import tensorflow as tf

    _, layer = pair(rank, return_sequences=True)
    x = signals(rank)

    def gradients(values):
        with tf.GradientTape() as tape:
            total = sum(tf.reduce_sum(o**2) for o in layer(values, training=True))
        return tape.gradient(total, layer.trainable_weights)

    spec = [tf.TensorSpec((None, None, *SPATIAL[rank], CHANNELS))]
    got = tf.function(gradients, input_signature=spec, jit_compile=True, autograph=False)(x)
    assert_all_close([g.numpy() for g in got], [g.numpy() for g in gradients(tf.constant(x))], atol=1e-4)
