"""The recurrent layers as Keras layers: their arguments, state, masks and files."""

import contextlib
import functools
import inspect

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.saving.serialization_lib import (  # not in Keras's public API
    ObjectSharingScope,
    get_shared_object,
    record_object_after_deserialization,
)

import kseq
from tests.support import compiled, outputs_and_gradients

KINDS = ["SimpleRNN", "GRU", "LSTM"]
X = np.random.default_rng(0).normal(size=(3, 6, 5)).astype("float32")


@pytest.fixture(params=KINDS)
def layer_class(request):
    return getattr(kseq.layers, request.param)


@pytest.mark.parametrize("shape", [(3, 5), (2, 6), (3, 6, 1)])
def test_a_mask_of_the_wrong_shape_is_refused(layer_class, shape):
    with pytest.raises(ValueError, match=r"expected mask of shape \(batch, time\) = \(3, 6\)"):
        layer_class(4)(X, mask=np.ones(shape, bool))


def test_a_row_without_steps_gives_its_initial_state(layer_class):
    layer = layer_class(4, return_state=True)
    mask = np.array([[True] * 6, [False] * 6, [True] * 6])
    state = [np.full((3, 4), 0.5, "float32") for _ in layer.state_size]
    output, *final = layer(X, mask=mask, initial_state=state)
    assert np.all(np.asarray(output)[1] == 0)
    for value in final:
        np.testing.assert_array_equal(np.asarray(value)[1], 0.5)


def functional_model(layer_class):
    inputs = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(10, 8, mask_zero=True)(inputs)
    values = layer_class(6, return_sequences=True, dropout=0.1, kernel_regularizer="l2")(values)
    values = kseq.layers.Bidirectional(layer_class(4))(values)
    return keras.Model(inputs, keras.layers.Dense(1)(values))


@pytest.mark.long
@pytest.mark.every_backend
def test_a_functional_model_trains_compiled():
    model = functional_model(kseq.layers.LSTM)
    model.compile("adam", "mse", jit_compile=True)
    random = np.random.default_rng(0)
    ids, labels = random.integers(0, 10, size=(16, 7)), random.normal(size=(16, 1))
    losses = model.fit(ids, labels, epochs=10, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.long
def test_a_functional_model_trains_a_step_and_round_trips(layer_class, tmp_path):
    model, ids = functional_model(layer_class), np.random.default_rng(0).integers(0, 10, size=(16, 7))
    model.compile("adam", "mse", run_eagerly=True)
    before = model.get_weights()
    model.train_on_batch(ids, np.ones((16, 1)))
    assert not any(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(ids), model(ids), atol=1e-6)


def test_config_round_trip(layer_class):
    layer = layer_class(4, activation="relu", dropout=0.2, return_sequences=True, go_backwards=True, name="mine")
    again = layer_class.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert isinstance(again.cell, kseq.cells.Cell)


@pytest.mark.long_on_jax("GRU")
def test_the_implicit_mask_is_used_and_passed_on(layer_class):
    ids = np.array([[1, 2, 0], [3, 0, 0]])
    embedded = keras.layers.Embedding(5, 5, mask_zero=True)(ids)
    layer = layer_class(4, return_sequences=True)
    outputs = layer(embedded)
    np.testing.assert_array_equal(kseq.masking.implicit_mask(outputs), ids != 0)
    np.testing.assert_allclose(outputs, layer(np.asarray(embedded), mask=ids != 0))
    assert layer.compute_mask(X, None) is None
    assert layer_class(4).compute_mask(X, ids != 0) is None


@pytest.mark.parametrize("wrap", [lambda layer: layer, kseq.layers.Bidirectional], ids=["forward", "bidirectional"])
def test_the_implicit_mask_is_used_with_initial_states_too(layer_class, wrap):
    """Keras drops it as soon as a layer gets more than one tensor."""
    ids = np.array([[1, 2, 0], [3, 0, 0]])
    embedded = keras.layers.Embedding(5, 5, mask_zero=True)(ids)
    layer = wrap(layer_class(4))
    count = len(layer_class(4).state_size) * (1 if layer.__class__ is layer_class else 2)
    outputs = layer(embedded, initial_state=[np.zeros((2, 4), "float32")] * count)
    np.testing.assert_array_equal(outputs, layer(np.asarray(embedded), mask=ids != 0))


@pytest.mark.long_on_jax("LSTM")
def test_stateful_goes_on_where_it_stopped(layer_class):
    whole = layer_class(4, return_sequences=True)
    outputs = np.asarray(whole(X))
    stateful = layer_class(4, return_sequences=True, stateful=True)
    stateful.build((3, 3, 5))
    stateful.set_weights(whole.get_weights())
    np.testing.assert_allclose(stateful(X[:, :3]), outputs[:, :3], atol=1e-6)
    np.testing.assert_allclose(stateful(X[:, 3:]), outputs[:, 3:], atol=1e-6)
    stateful.reset_state()
    np.testing.assert_allclose(stateful(X[:, :3]), outputs[:, :3], atol=1e-6)


def test_stateful_under_xla(layer_class):
    layer = layer_class(4, stateful=True)
    layer.build((3, 6, 5))
    run = compiled(lambda x: layer(x))
    first, second = np.asarray(run(X)), np.asarray(run(X))
    assert not np.allclose(first, second)
    layer.reset_state()
    np.testing.assert_allclose(run(X), first, atol=1e-6)


@pytest.mark.parametrize(
    "options", [{"dropout": 0.5}, {"recurrent_dropout": 0.5}, {"dropout": 0.3, "recurrent_dropout": 0.3}]
)
def test_dropout_acts_in_training_only(layer_class, options):
    layer = layer_class(4, return_sequences=True, seed=1, **options)
    np.testing.assert_array_equal(layer(X), layer(X))
    assert not np.allclose(layer(X, training=True), layer(X, training=True))
    _, gradients = outputs_and_gradients(layer, X, training=True)
    assert all(np.isfinite(g).all() for g in gradients)


def test_input_dropout_is_one_mask_for_all_steps(layer_class):
    """With the identity as the kernel and no recurrence, an output shows which of its inputs were dropped."""
    layer = kseq.layers.SimpleRNN(5, activation=None, dropout=0.5, return_sequences=True, seed=3)
    layer.build((None, None, 5))
    layer.set_weights([np.eye(5), np.zeros((5, 5)), np.zeros(5)])
    outputs = np.asarray(layer(np.ones((64, 6, 5), "float32"), training=True))
    assert set(np.unique(outputs)) == {0.0, 2.0}
    assert np.all(outputs == outputs[:, :1])
    assert 0.3 < np.mean(outputs == 0) < 0.7


def test_regularizers_constraints_and_initializers_are_honoured(layer_class):
    layer = layer_class(
        4,
        kernel_initializer="ones",
        recurrent_initializer="zeros",
        kernel_regularizer=keras.regularizers.L2(0.5),
        kernel_constraint="non_neg",
        bias_constraint="non_neg",
    )
    layer.build((None, None, 5))
    assert np.all(np.asarray(layer.cell.kernel) == 1)
    assert np.all(np.asarray(layer.cell.recurrent_kernel) == 0)
    assert isinstance(layer.cell.kernel.constraint, keras.constraints.NonNeg)
    np.testing.assert_allclose(float(sum(layer.losses)), 0.5 * layer.cell.kernel.shape[0] * layer.cell.kernel.shape[1])


def test_use_cudnn_true_says_that_there_is_no_gpu():
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="use_cudnn=True was specified"):
        kseq.layers.LSTM(4, use_cudnn=True)(X)


def test_rnn_takes_any_keras_cell_and_lists_of_cells():
    outputs = kseq.layers.RNN(keras.layers.LSTMCell(4), return_sequences=True)(X)
    assert outputs.shape == (3, 6, 4)
    poisoned = X.copy()
    poisoned[:, 4:] = np.nan
    stacked = kseq.layers.RNN([kseq.cells.LSTMCell(4), keras.layers.GRUCell(3)])
    assert kseq.layers.RNN([kseq.cells.LSTMCell(4)], True).return_sequences  # by position too
    mask = np.arange(6)[None] < np.full((3, 1), 4)
    np.testing.assert_array_equal(stacked(poisoned, mask=mask), stacked(X, mask=mask))


def test_a_separate_backward_layer_may_have_other_units():
    layer = kseq.layers.Bidirectional(
        kseq.layers.LSTM(4, return_sequences=True),
        backward_layer=kseq.layers.GRU(7, return_sequences=True, go_backwards=True),
    )
    assert layer(keras.Input((6, 5))).shape == (None, 6, 11)
    outputs = np.asarray(layer(X))
    np.testing.assert_allclose(outputs[:, :, :4], layer.forward_layer(X), atol=1e-6)
    np.testing.assert_allclose(outputs[:, :, 4:], ops.flip(layer.backward_layer(X), axis=1), atol=1e-6)


def test_weights_of_both_directions_are_set_when_built():
    random = np.random.default_rng(0)
    weights = [random.normal(size=shape).astype("float32") for shape in ((5, 9), (3, 9), (2, 9)) * 2]
    model = keras.Sequential([keras.Input((None, 5)), kseq.layers.Bidirectional(kseq.layers.GRU(3), weights=weights)])
    for weight, expected in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_directions_with_unlike_states_take_initial_states():
    forward = kseq.layers.LSTM(4, return_sequences=True, return_state=True)
    backward = kseq.layers.GRU(4, return_sequences=True, return_state=True, go_backwards=True)
    layer = kseq.layers.Bidirectional(forward, merge_mode="sum", backward_layer=backward)
    given = [np.full((3, 4), value, "float32") for value in (0.1, 0.2, 0.3)]
    outputs, *states = layer(X, initial_state=given)
    ahead, *ahead_states = layer.forward_layer(X, initial_state=given[:2])
    back, *back_states = layer.backward_layer(X, initial_state=given[2:])
    np.testing.assert_allclose(outputs, ahead + ops.flip(back, axis=1), atol=1e-6)
    for state, expected in zip(states, [*ahead_states, *back_states], strict=True):
        np.testing.assert_allclose(state, expected, atol=1e-6)


@pytest.mark.parametrize("merge_mode", ["concat", "sum", None])
def test_both_directions_answer_in_the_precision_they_are_given(merge_mode):
    layer = kseq.layers.Bidirectional(kseq.layers.GRU(4), merge_mode=merge_mode, dtype="mixed_bfloat16")
    expected = keras.layers.Bidirectional(keras.layers.GRU(4), merge_mode=merge_mode, dtype="mixed_bfloat16")
    dtypes = [[keras.backend.standardize_dtype(y.dtype) for y in keras.tree.flatten(b(X))] for b in (layer, expected)]
    assert set(dtypes[0]) == {"bfloat16"}
    assert dtypes[0] == dtypes[1]


def test_what_keras_thinks_is_shared_is_not():
    """Keras identifies objects by address, and layers of a loaded model may have the addresses of deleted ones."""
    layer, stranger = kseq.layers.GRU(4), kseq.layers.GRU(7)
    with ObjectSharingScope():  # as in `keras.saving.load_model`
        record_object_after_deserialization(stranger, id(layer))
        both = kseq.layers.Bidirectional(layer)
        assert get_shared_object(id(layer)) is stranger, "what is shared in the file around it still is"
    assert both.forward_layer.units == both.backward_layer.units == 4
    assert both.forward_layer is not both.backward_layer


def test_a_state_without_one_of_its_tensors_is_refused():
    state = np.zeros((3, 4), "float32")
    with pytest.raises(ValueError, match=r"initial_state\[1\] is None, but all states must be given"):
        kseq.layers.LSTM(4)(X, initial_state=[state, None])


def test_a_mask_of_lists_is_that_mask():
    layer, mask = kseq.layers.LSTM(4), np.arange(X.shape[1])[None] < np.array([[1], [2], [X.shape[1]]])
    np.testing.assert_array_equal(layer(X, mask=mask.tolist()), layer(X, mask=mask))


def test_the_wrong_number_of_initial_states_is_refused():
    with pytest.raises(ValueError, match="initial_state has 1 tensors, but LSTMCell has 2 states"):
        kseq.layers.LSTM(4)(X, initial_state=[np.zeros((3, 4), "float32")])


@pytest.mark.parametrize(("count", "came"), [(None, "a single tensor"), (1, "1 tensors"), (3, "3 tensors")])
def test_the_wrong_number_of_initial_states_of_two_directions_is_refused(count, came):
    state = np.zeros((3, 4), "float32")
    with pytest.raises(ValueError, match=f"initial_state is {came}, but .* Give a list of 2 tensors"):
        kseq.layers.Bidirectional(kseq.layers.GRU(4))(X, initial_state=state if count is None else [state] * count)


@pytest.mark.parametrize("merge_mode", ["sum", "ave", "mul"])
def test_directions_of_unlike_sizes_are_only_concatenated(merge_mode):
    layer = kseq.layers.Bidirectional(
        kseq.layers.GRU(4), merge_mode=merge_mode, backward_layer=kseq.layers.GRU(7, go_backwards=True)
    )
    with pytest.raises(ValueError, match=f"merge_mode='{merge_mode}' needs outputs of one size, .* has 4 and .* 7"):
        layer(X)


@pytest.mark.parametrize(("cell", "layer"), [("mixed_float16", "float32"), ("float32", "mixed_bfloat16")])
def test_a_cell_of_another_precision_than_the_layers(cell, layer):
    outputs = kseq.layers.RNN(kseq.cells.LSTMCell(4, dtype=cell), dtype=layer, return_sequences=True)(X)
    assert keras.backend.standardize_dtype(outputs.dtype) == layer.removeprefix("mixed_")


@pytest.mark.parametrize("options", [{"reset_after": False}, {"reset_after": True}])
def test_a_row_without_steps_answers_zero_through_either_loop(options):
    layer = kseq.layers.GRU(4, return_sequences=True, **options)
    mask = np.array([[True] * 6, [False] * 6, [True] * 6])
    outputs = layer(X, mask=mask, initial_state=[np.full((3, 4), 0.5, "float32")])
    assert np.all(np.asarray(outputs)[1] == 0)


def test_a_dropout_mask_for_each_gate():
    layer = kseq.layers.LSTM(4, dropout=0.4, implementation=1, return_sequences=True)
    assert np.isfinite(np.asarray(layer(X, training=True))).all()


@pytest.mark.parametrize("merge_mode", ["concat", None])
def test_bidirectional_passes_masks_on(merge_mode):
    mask = np.arange(6)[None] < np.array([[6], [3], [1]])
    layer = kseq.layers.Bidirectional(
        kseq.layers.GRU(4, return_sequences=True, return_state=True), merge_mode=merge_mode
    )
    masks = layer.compute_mask(X, mask)
    outputs = layer(X, mask=mask)
    assert len(masks) == len(outputs)
    assert [m is not None for m in masks] == [len(o.shape) == 3 for o in outputs]
    assert np.all(np.asarray(outputs[0])[~mask] == 0)


@pytest.mark.parametrize("stacked", [False, True])
def test_a_mask_goes_on_in_the_order_of_the_outputs(stacked):
    """A padded row after a layer that goes backwards, against the row alone; Keras passes the mask on unflipped."""
    gru = functools.partial(kseq.layers.GRU, 4, return_sequences=True, go_backwards=not stacked)
    first = kseq.layers.StackedRNN([gru(), gru()], go_backwards=True, return_sequences=True) if stacked else gru()
    second = kseq.layers.GRU(3)
    x = np.random.default_rng(0).normal(size=(2, 6, 5)).astype("float32")
    masked = keras.layers.Masking()(np.where(np.arange(6)[None, :, None] < np.array([6, 2])[:, None, None], x, 0.0))
    np.testing.assert_allclose(np.asarray(second(first(masked)))[1], np.asarray(second(first(x[1:, :2])))[0], atol=1e-6)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 4), (2, 4)], None),
        ([(2, 4), (1, 4)], r"initial_state\[1\] has shape \(1, 4\), but the cell and the sequences need \(2, 4\)"),
        ([(2, 5), (2, 4)], r"initial_state\[0\] has shape \(2, 5\), but the cell and the sequences need \(2, 4\)"),
        ([(2, 4)], "initial_state has 1 tensors, but LSTMCell has 2 states"),
    ],
)
def test_states_of_other_shapes_are_refused(shapes, message):
    x, states = np.zeros((2, 3, 5), "float32"), [np.zeros(shape, "float32") for shape in shapes]
    with pytest.raises(ValueError, match=message) if message else contextlib.nullcontext():
        kseq.layers.LSTM(4)(x, initial_state=states)


def test_sequences_without_features_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\), but a recurrent layer takes \(batch, time, features\)"):
        kseq.layers.RNN(kseq.cells.LSTMCell(4))(np.zeros((2, 3), "float32"))


def test_an_initial_state_may_be_lists_of_numbers():
    layer = kseq.layers.LSTM(2)
    x = np.ones((1, 3, 2), "float32")
    state = [np.full((1, 2), value, "float32") for value in (0.5, -1.0)]
    np.testing.assert_array_equal(layer(x, initial_state=[s.tolist() for s in state]), layer(x, initial_state=state))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN", "RNN"])
def test_constructors_have_the_arguments_of_keras(kind):
    """In Keras's order and with its defaults, so that calls by position mean the same."""
    ours, theirs = (inspect.signature(getattr(layers, kind).__init__) for layers in (kseq.layers, keras.layers))
    assert [(p.name, p.default, p.kind) for p in ours.parameters.values() if p.name != "jit_compile"] == [
        (p.name, p.default, p.kind) for p in theirs.parameters.values()
    ]
