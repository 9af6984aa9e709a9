"""Recurrent layers that continue from a former call: by states given and returned, or by `stateful`."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from tests.support import BACKEND, assert_all_close, compiled, outputs_and_gradients

BATCH, TIME, CUTS = 4, 6, [0, 3, 6]
X = np.random.default_rng(0).normal(size=(BATCH, TIME, 5)).astype("float32")
MASKS = {
    "padding": np.arange(TIME)[None] < np.array([[6], [2], [5], [0]]),  # rows that end in one piece, or never start
    "holes": np.random.default_rng(1).random((BATCH, TIME)) < 0.5,
}


@keras.saving.register_keras_serializable(package="tests")
class LearnedStartCell(kseq.cells.GRUCell):
    """A cell whose initial state is a weight, ones at first."""

    def build(self, input_shape):
        super().build(input_shape)
        self.start = self.add_weight(shape=(self.units,), initializer="ones", name="start")

    def get_initial_state(self, batch_size=None):
        return [ops.broadcast_to(self.start, (batch_size, self.units))]


@keras.saving.register_keras_serializable(package="tests")
class PairCell(keras.layers.Layer):
    """A cell with a dict of outputs, neither of which is its state."""

    state_size = 5

    def call(self, inputs, states):
        total = states[0] + inputs
        return {"sum": ops.sum(total, axis=-1), "double": 2.0 * total}, [total]


CELLS = {
    "LSTM": lambda: kseq.cells.LSTMCell(4),
    "learned start": lambda: LearnedStartCell(4),
    "Keras's": lambda: keras.layers.StackedRNNCells([keras.layers.LSTMCell(3), keras.layers.GRUCell(4)]),
    "nested outputs": PairCell,
}


def pair(name, **options):
    """A layer, and a stateful one with the same weights."""
    whole, stateful = (kseq.layers.RNN(CELLS[name](), stateful=s, **options) for s in (False, True))
    for layer in (whole, stateful):
        layer.build((BATCH, None, 5))
    stateful.set_weights(whole.get_weights())
    return whole, stateful


def arrays(nest):
    return [np.asarray(leaf) for leaf in keras.tree.flatten(nest)]


def caller(layer, *, jit):
    """`(x, mask) -> outputs` of the layer, compiled or not, in the way that its variables need on this backend."""

    def plain(x, mask):
        return layer(x, mask=mask)

    if BACKEND == "tensorflow":
        return compiled(plain) if jit else plain

    def stateless(trainable, others, x, mask):
        return layer.stateless_call(trainable, others, x, mask=mask)

    run = compiled(stateless) if jit else stateless

    def call(x, mask):
        values = [[v.value for v in vs] for vs in (layer.trainable_variables, layer.non_trainable_variables)]
        outputs, others = run(*values, x, mask)
        for variable, value in zip(layer.non_trainable_variables, others, strict=True):
            variable.assign(value)
        return outputs

    return call


def pieces(run, x, mask):
    """The outputs of consecutive runs over pieces of the sequences."""
    cuts = itertools.pairwise(CUTS)
    return [arrays(run(x[:, a:b], None if mask is None else mask[:, a:b])) for a, b in cuts]


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("mask", "zero"), [("no mask", False), ("padding", False), ("holes", False), ("holes", True)])
def test_pieces_equal_the_whole(name, mask, zero):
    mask = None if mask == "no mask" else MASKS[mask]
    whole, stateful = pair(name, return_sequences=True, zero_output_for_mask=zero)
    run, expected = caller(stateful, jit=False), arrays(whole(X, mask=mask))
    for _ in range(2):  # the second time after a reset
        got = [np.concatenate(parts, axis=1) for parts in zip(*pieces(run, X, mask), strict=True)]
        assert_all_close(got, expected, atol=1e-5)
        stateful.reset_state()


@pytest.mark.long
@pytest.mark.long_on_jax
@pytest.mark.parametrize("name", CELLS)
def test_pieces_equal_the_whole_compiled(name):
    mask = MASKS["padding"]
    whole, stateful = pair(name, return_state=True)
    run, expected = caller(stateful, jit=True), arrays(whole(X, mask=mask))
    for _ in range(2):
        assert_all_close(pieces(run, X, mask)[-1], expected, atol=1e-5)
        stateful.reset_state()


@pytest.mark.parametrize("name", ["LSTM", "nested outputs"])
@pytest.mark.parametrize("mask", MASKS)
def test_states_given_and_returned_equal_the_whole(name, mask):
    mask = MASKS[mask]
    layer, _ = pair(name, return_sequences=True, return_state=True, zero_output_for_mask=True)
    expected, *expected_states = layer(X, mask=mask)
    states, outputs = None, []
    for a, b in itertools.pairwise(CUTS):
        output, *states = layer(X[:, a:b], mask=mask[:, a:b], initial_state=states)
        outputs.append(arrays(output))
    got = [np.concatenate(parts, axis=1) for parts in zip(*outputs, strict=True)]
    assert_all_close(got + arrays(states), arrays(expected) + arrays(expected_states), atol=1e-5)


@pytest.mark.long
@pytest.mark.every_backend
@pytest.mark.parametrize("name", ["LSTM", "learned start"])
def test_predict_goes_on_and_reset_state_starts_again(name):
    inputs = keras.Input(batch_shape=(BATCH, None, 5))
    layer = kseq.layers.RNN(CELLS[name](), stateful=True)
    model = keras.Model(inputs, layer(inputs))
    model.compile("sgd", "mse", jit_compile=True)
    first, second = (model.predict(X, batch_size=BATCH, verbose=0) for _ in range(2))
    assert not np.allclose(first, second)
    layer.reset_state()
    np.testing.assert_allclose(model.predict(X, batch_size=BATCH, verbose=0), first, atol=1e-6)


@pytest.mark.long
@pytest.mark.every_backend
def test_training_changes_where_a_learned_start_goes_back_to(tmp_path):
    inputs = keras.Input(batch_shape=(BATCH, TIME, 5))
    layer = kseq.layers.RNN(LearnedStartCell(4), stateful=True)
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(1.0), "mse", jit_compile=True)
    model.fit(X, np.zeros((BATCH, 4)), batch_size=BATCH, epochs=1, verbose=0)
    start = np.asarray(layer.cell.start)
    assert np.all(start != 1.0), "the first piece's gradient reaches the start"
    model.fit(X, np.zeros((BATCH, 4)), batch_size=BATCH, epochs=1, verbose=0)
    np.testing.assert_array_equal(layer.cell.start, start)  # the second piece did not start from it
    layer.reset_state()
    np.testing.assert_allclose(layer.states[0], np.tile(start, (BATCH, 1)))
    expected = arrays(model(X))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")  # built before its weights are loaded
    assert_all_close(arrays(loaded(X)), expected, atol=1e-6)


def test_reset_state_takes_values():
    whole, stateful = pair("LSTM", return_sequences=True)
    given = [np.full((BATCH, 4), value, "float32") for value in (0.3, -0.2)]
    stateful(X)
    stateful.reset_state(given)
    np.testing.assert_allclose(stateful(X), whole(X, initial_state=given), atol=1e-6)
    stateful.reset_states()
    np.testing.assert_allclose(stateful(X), whole(X), atol=1e-6)
    with pytest.raises(ValueError, match="Make it with stateful=True"):
        whole.reset_state(given)


def test_a_given_initial_state_wins_and_what_follows_goes_on_from_it():
    whole, stateful = pair("LSTM", return_sequences=True)
    given = [np.full((BATCH, 4), value, "float32") for value in (0.3, -0.2)]
    mask = MASKS["padding"]
    stateful(X, mask=mask)
    expected = np.asarray(whole(X, initial_state=given, mask=mask))
    np.testing.assert_allclose(stateful(X[:, :3], initial_state=given, mask=mask[:, :3]), expected[:, :3], atol=1e-6)
    np.testing.assert_allclose(stateful(X[:, 3:], mask=mask[:, 3:]), expected[:, 3:], atol=1e-6)


def test_what_is_carried_is_no_weight_but_a_variable():
    whole, stateful = pair("LSTM")
    assert [w.name for w in stateful.weights] == [w.name for w in whole.weights]
    assert {v.path for v in stateful.variables} > {v.path for v in stateful.weights}
    assert len(stateful.trainable_variables) == len(whole.trainable_variables)


def test_gradients_of_a_piece_stop_at_its_beginning():
    whole, stateful = pair("LSTM", return_sequences=True)
    states = whole.get_initial_state(BATCH)
    _, *states = kseq.layers.RNN(whole.cell, return_state=True)(X[:, :3], initial_state=states)
    expected = outputs_and_gradients(whole, X[:, 3:], initial_state=states)
    stateful(X[:, :3])
    got = outputs_and_gradients(stateful, X[:, 3:])
    assert_all_close(got[0] + got[1], expected[0] + expected[1], atol=1e-5)


def test_mixed_precision_carries_in_float32():
    layer = kseq.layers.RNN(kseq.cells.LSTMCell(4, dtype="mixed_float16"), stateful=True, dtype="mixed_float16")
    layer.build((BATCH, None, 5))
    assert keras.backend.standardize_dtype(layer(X).dtype) == "float16"
    assert {keras.backend.standardize_dtype(s.dtype) for s in layer.states} == {"float32"}
    assert np.isfinite(np.asarray(layer(X), "float32")).all()


def test_another_batch_size_is_refused():
    _, stateful = pair("LSTM")
    with pytest.raises(ValueError, match=r"states of 4 rows, but the sequences have shape \(3, 6, 5\)"):
        stateful(X[:3])
    with pytest.raises(ValueError, match="stateful=True needs a fixed batch size"):
        kseq.layers.LSTM(4, stateful=True)(keras.Input((None, 5)))


@pytest.mark.parametrize("jit", [False, True])
def test_a_single_row_of_unknown_batch_is_not_taken_for_all_rows(jit):
    import tensorflow as tf

    _, stateful = pair("LSTM")
    run = tf.function(lambda x: stateful(x), input_signature=[tf.TensorSpec((None, None, 5))], jit_compile=jit)
    assert run(X).shape == (BATCH, 4)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        run(X[:1])


def test_the_forward_layer_of_bidirectional_goes_on():
    layer = kseq.layers.Bidirectional(kseq.layers.GRU(4, return_sequences=True, stateful=True))
    layer.build((BATCH, None, 5))
    whole = np.asarray(layer(X))[:, :, :4]
    layer.forward_layer.reset_state()
    got = np.concatenate([np.asarray(layer(X[:, a:b]))[:, :, :4] for a, b in ((0, 3), (3, 6))], axis=1)
    np.testing.assert_allclose(got, whole, atol=1e-6)
