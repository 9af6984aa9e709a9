"""StackedRNN and DeepRNN against explicit Keras layers; their state, masks and files; both directions."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.layers import GRU, LSTM, Bidirectional, DeepRNN, SimpleRNN, StackedRNN
from tests.support import assert_all_close, compiled, keras_may_lose_masks, outputs_and_gradients

pytestmark = keras_may_lose_masks
BATCH, TIME, FEATURES, UNITS = 3, 6, 5, 4
X = np.random.default_rng(0).normal(size=(BATCH, TIME, FEATURES)).astype("float32")
MASKS = {
    "no mask": None,
    "padding": np.arange(TIME)[None] < np.array([[6], [3], [1]]),
    "holes": np.array([[1, 0, 1, 1, 0, 1], [1, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 1]], bool),
}
OPTIONS = [
    {},
    {"residual": True, "return_sequences": True},
    {"residual": True, "layer_norm": True},
    {"residual": True, "layer_norm": True, "go_backwards": True, "return_sequences": True},
]


def layers():
    return [LSTM(UNITS), GRU(UNITS), SimpleRNN(3)]


def stack(make=layers, kind=StackedRNN, **options):
    layer = kind(make(), **options)
    layer.build((BATCH if options.get("stateful") else None, None, FEATURES))
    random = np.random.default_rng(1)
    layer.set_weights([random.normal(size=w.shape).astype("float32") / 2 for w in layer.get_weights()])
    return layer


def states(layer):
    random = np.random.default_rng(2)
    return [random.normal(size=(BATCH, size)).astype("float32") for size in layer.state_size]


class Explicit(keras.layers.Layer):
    """Keras's layers one by one, by the equations of StackedRNN; every output is a whole sequence."""

    def __init__(self, like):
        super().__init__()
        self.supports_masking = True
        common = {"return_sequences": True, "return_state": True}
        backwards = like.go_backwards
        self.steps = [
            keras.layers.LSTM(UNITS, go_backwards=backwards, **common),
            keras.layers.GRU(UNITS, **common),
            keras.layers.SimpleRNN(3, **common),
        ]
        self.options = {key: getattr(like, key) for key in ("residual", "go_backwards", "return_sequences")}
        self.norms = [keras.layers.LayerNormalization() for _ in self.steps if like.layer_norm]
        shape = (None, TIME, FEATURES)
        for index, layer in enumerate(self.steps):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)[0]
            if self.norms:
                self.norms[index].build(shape)
        self.built = True
        self.set_weights(like.get_weights())

    def call(self, x, mask=None, initial_state=None, training=False):
        given, final = iter(initial_state), []
        for index, layer in enumerate(self.steps):
            state = [next(given) for _ in layer.state_size]
            y, *new = layer(x, mask=mask, initial_state=state, training=training)
            final += new
            if index == 0 and self.options["go_backwards"] and mask is not None:
                mask = mask[:, ::-1]  # from here on everything is in the order in which steps ran
            if self.norms:
                y = self.norms[index](y)
            x = y + x if self.options["residual"] and index == 1 else y  # the third layer's size differs
        return (x if self.options["return_sequences"] else x[:, -1], *final)


@pytest.mark.mostly_long("padding")
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_explicit_keras_layers(options, mask):
    """Outputs, final states, and the gradients of inputs and weights."""
    ours = stack(return_state=True, **options)
    theirs = Explicit(ours)
    call = {"mask": MASKS[mask], "initial_state": states(ours), "training": True}
    if options.get("go_backwards") and mask == "padding":
        call["mask"] = MASKS["padding"][:, ::-1]  # a run that starts with padding has zeros there, tested below
    got, expected = outputs_and_gradients(ours, X, **call), outputs_and_gradients(theirs, X, **call)
    assert_all_close(got[0], expected[0], atol=1e-5)
    assert_all_close(got[1], expected[1], atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_padding_never_changes_an_answer(options):
    layer, mask = stack(return_state=True, **options), MASKS["padding"]
    poisoned = np.where(mask[:, :, None], X, np.nan)
    clean, dirty = (outputs_and_gradients(layer, x, mask=mask, training=True) for x in (X, poisoned))
    assert all(np.isfinite(value).all() for value in dirty[0] + dirty[1])
    assert_all_close(dirty[0] + dirty[1], clean[0] + clean[1], atol=0, rtol=0)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_row_alone_equals_the_row_in_its_batch(options):
    layer, mask = stack(return_state=True, **options), MASKS["padding"]
    output, *final = map(np.asarray, layer(X, mask=mask))
    for row, length in enumerate(mask.sum(axis=1)):
        alone, *alone_final = layer(X[row : row + 1, :length])
        whole = output[row]
        if layer.go_backwards:  # padding comes first, and is zero
            assert np.all(whole[: TIME - length] == 0)
            whole = whole[TIME - length :]
        elif layer.return_sequences:
            assert np.all(whole[length:] == whole[length - 1])
            whole = whole[:length]
        np.testing.assert_allclose(whole, alone[0], atol=1e-6)
        assert_all_close([f[row] for f in final], [np.asarray(f)[0] for f in alone_final], atol=1e-6)


def test_sequence_equals_steps():
    layer = stack(return_sequences=True, return_state=True, residual=True, layer_norm=True)
    outputs, *final = layer(X)
    state = layer.get_initial_state(BATCH)
    for time in range(TIME):
        output, *state = layer(X[:, time : time + 1], initial_state=state)
        np.testing.assert_allclose(output[:, 0], outputs[:, time], atol=1e-6)
    assert_all_close(list(map(np.asarray, state)), list(map(np.asarray, final)), atol=1e-6)


def test_the_first_layer_adds_no_inputs():
    """Otherwise it would depend on the number of features."""
    plain, residual = (stack(adders, return_sequences=True, residual=residual) for residual in (False, True))
    np.testing.assert_allclose(residual(X), plain(X) + plain.layers[0](X)[0], atol=1e-6)


def test_zero_output_for_mask():
    held = stack(return_sequences=True, layer_norm=True)
    zero = StackedRNN.from_config({**held.get_config(), "zero_output_for_mask": True})
    zero.build((None, None, FEATURES))
    zero.set_weights(held.get_weights())
    mask = MASKS["holes"]
    outputs = zero(X, mask=mask)
    np.testing.assert_array_equal(outputs, np.where(mask[:, :, None], held(X, mask=mask), 0.0))
    last = StackedRNN.from_config({**zero.get_config(), "return_sequences": False})
    last.build((None, None, FEATURES))
    last.set_weights(held.get_weights())
    np.testing.assert_allclose(last(X, mask=mask), outputs[:, -1], atol=1e-6)


def test_a_row_without_steps_gives_its_initial_states_and_zeros():
    layer = stack(return_state=True, return_sequences=True, layer_norm=True, residual=True)
    layer.set_weights([np.ones_like(w) for w in layer.get_weights()])  # a norm's offset is not zero either
    given, mask = states(layer), np.array([[True] * TIME, [False] * TIME, [True] * TIME])
    outputs, *final = layer(X, mask=mask, initial_state=given)
    assert np.all(np.asarray(outputs)[1] == 0)
    assert_all_close([np.asarray(f)[1] for f in final], [g[1] for g in given], atol=0)


@pytest.mark.long
@pytest.mark.every_backend
def test_compiled_equals_eager():
    layer, mask = stack(return_sequences=True, return_state=True, residual=True, layer_norm=True), MASKS["padding"]
    graph = compiled(lambda x, m: layer(x, mask=m))(X, mask)
    assert_all_close(list(map(np.asarray, graph)), list(map(np.asarray, layer(X, mask=mask))), atol=1e-6)


@pytest.mark.long
def test_unknown_batch_and_time():
    import tensorflow as tf

    layer = stack(residual=True, layer_norm=True, dropout=0.5)
    specs = [tf.TensorSpec([None, None, FEATURES]), tf.TensorSpec([None, None], tf.bool)]
    run = tf.function(lambda x, mask: layer(x, mask=mask), input_signature=specs, jit_compile=True)
    np.testing.assert_allclose(run(X, MASKS["padding"]), layer(X, mask=MASKS["padding"]), atol=1e-6)


def adders(count=2):
    """Layers that sum their inputs: an output shows which inputs were dropped on the way."""
    options = {"activation": None, "kernel_initializer": "identity", "recurrent_initializer": "zeros"}
    return [SimpleRNN(FEATURES, **options) for _ in range(count)]


def test_dropout_is_between_layers_one_mask_for_all_steps():
    ones = np.ones((64, TIME, FEATURES), "float32")
    single = StackedRNN(adders(1), dropout=0.5, return_sequences=True)
    np.testing.assert_array_equal(single(ones, training=True), ones)
    triple = StackedRNN(adders(3), dropout=0.5, return_sequences=True, seed=1)
    outputs = np.asarray(triple(ones, training=True))
    assert np.all(outputs == outputs[:, :1])
    assert set(np.unique(outputs)) == {0.0, 4.0}  # dropped by one of two masks, or doubled twice
    assert 0.65 < np.mean(outputs == 0) < 0.85  # two different masks: three quarters
    np.testing.assert_array_equal(triple(ones), ones)


@pytest.mark.long
def test_functional_model_trains_and_round_trips(tmp_path):
    ids = keras.Input((None,), dtype="int32")
    values = keras.layers.Embedding(10, 8, mask_zero=True)(ids)
    both = Bidirectional(StackedRNN([GRU(6), SimpleRNN(6)], return_sequences=True, dropout=0.1, residual=True))
    values = DeepRNN([SimpleRNN(4)], output_units=3, layer_norm=True)(both(values))
    model = keras.Model(ids, values)
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    random = np.random.default_rng(0)
    texts, labels = random.integers(0, 10, size=(16, 7)), random.integers(0, 3, size=16)
    losses = model.fit(texts, labels, epochs=3, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(texts), model(texts), atol=1e-6)


@pytest.mark.parametrize("kind", ["StackedRNN", "DeepRNN"])
def test_config_round_trip(kind):
    options = {"dropout": 0.1, "residual": True, "layer_norm": True, "return_sequences": True, "return_state": True}
    options |= {"go_backwards": True, "stateful": True, "zero_output_for_mask": True, "seed": 3, "name": "mine"}
    options |= {"output_units": 2, "output_activation": "sigmoid"} if kind == "DeepRNN" else {}
    layer = getattr(kseq.layers, kind)(layers(), **options)
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert [type(one) for one in again.layers] == [LSTM, GRU, SimpleRNN]
    assert {key: getattr(again, key) for key in options if key != "output_activation"} == {
        key: value for key, value in options.items() if key != "output_activation"
    }


@pytest.mark.long
@pytest.mark.parametrize("mask", [None, np.arange(TIME)[None] < np.array([[6], [2], [0]])], ids=["no mask", "padding"])
def test_stateful_pieces_equal_the_whole(mask):
    """Also if a row has ended before a piece, or never starts: layer_norm turns zeros into other numbers."""
    options = {"return_sequences": True, "layer_norm": True, "residual": True}
    whole, stateful = stack(**options), stack(stateful=True, **options)
    expected = np.asarray(whole(X, mask=mask))
    for _ in range(2):  # the second time after a reset
        for part in (slice(0, 3), slice(3, 6)):
            outputs = stateful(X[:, part], mask=None if mask is None else mask[:, part])
            np.testing.assert_allclose(outputs, expected[:, part], atol=1e-6)
        assert [tuple(s.shape) for s in stateful.states] == [(BATCH, size) for size in stateful.state_size]
        stateful.reset_state()
    given = states(stateful)
    stateful(X)
    stateful.reset_state(given)
    np.testing.assert_allclose(stateful(X, mask=mask), whole(X, mask=mask, initial_state=given), atol=1e-6)
    assert len(stateful.weights) == len(whole.weights)
    assert len(stateful.variables) > len(stateful.weights)


@pytest.mark.long
def test_stateful_under_xla():
    layer = stack(stateful=True)
    run = compiled(lambda x: layer(x))
    first, second = np.asarray(run(X)), np.asarray(run(X))
    assert not np.allclose(first, second)
    layer.reset_state()
    np.testing.assert_allclose(run(X), first, atol=1e-6)


def test_masks_are_taken_and_passed_on():
    ids = np.array([[1, 2, 0], [3, 0, 0], [1, 1, 1]])
    embedded = keras.layers.Embedding(5, FEATURES, mask_zero=True)(ids)
    layer = stack(return_sequences=True, go_backwards=True, layer_norm=True)
    expected = layer(np.asarray(embedded), mask=ids != 0)
    outputs = layer(embedded)
    np.testing.assert_array_equal(kseq.masking.implicit_mask(outputs), np.flip(ids != 0, axis=1))  # as the outputs are
    np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_array_equal(layer(embedded, initial_state=layer.get_initial_state(3)), expected)
    assert layer.compute_mask(X, None) is None
    assert stack().compute_mask(X, ids != 0) is None
    assert len(stack(return_state=True).compute_mask(X, ids != 0)) == 1 + 4


@pytest.mark.long
def test_a_default_backward_copy_is_the_whole_stack_backwards():
    options = {"return_sequences": True, "return_state": True, "residual": True, "layer_norm": True}
    layer = Bidirectional(StackedRNN(layers(), **options))
    outputs, *final = layer(X, mask=MASKS["padding"])
    back = layer.backward_layer
    assert back.go_backwards
    assert not any(one.go_backwards for one in back.layers)
    ahead, *ahead_final = layer.forward_layer(X, mask=MASKS["padding"])
    behind, *behind_final = back(X, mask=MASKS["padding"])
    np.testing.assert_allclose(outputs, ops.concatenate([ahead, ops.flip(behind, axis=1)], axis=-1), atol=1e-6)
    assert_all_close(list(map(np.asarray, final)), list(map(np.asarray, [*ahead_final, *behind_final])), atol=1e-6)
    assert np.all(np.asarray(outputs)[~MASKS["padding"]] == 0)
    row, *_ = layer(X[1:2, :3])
    np.testing.assert_allclose(row[0], outputs[1, :3], atol=1e-5)


@pytest.mark.long
def test_depths_of_the_directions_are_chosen_apart(tmp_path):
    def make():
        forward = StackedRNN([LSTM(4), GRU(6), LSTM(4)], return_sequences=True, return_state=True)
        back = StackedRNN([GRU(7), LSTM(3)], return_sequences=True, return_state=True, go_backwards=True)
        return Bidirectional(forward, backward_layer=back)

    layer = make()
    given = [np.full((BATCH, size), 0.1, "float32") for size in (4, 4, 6, 4, 4, 7, 3, 3)]
    outputs, *final = layer(X, initial_state=given, mask=MASKS["padding"])
    ahead, *ahead_final = layer.forward_layer(X, initial_state=given[:5], mask=MASKS["padding"])
    back, *back_final = layer.backward_layer(X, initial_state=given[5:], mask=MASKS["padding"])
    np.testing.assert_allclose(outputs[:, :, :4], ahead, atol=1e-6)
    np.testing.assert_allclose(outputs[:, :, 4:], ops.flip(back, axis=1), atol=1e-6)
    assert_all_close(list(map(np.asarray, final)), list(map(np.asarray, [*ahead_final, *back_final])), atol=1e-6)
    inputs = keras.Input((None, FEATURES))
    symbolic = make()(inputs)
    assert [s.shape[-1] for s in symbolic] == [7, 4, 4, 6, 4, 4, 7, 3, 3]
    model = keras.Model(inputs, symbolic)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert_all_close(list(map(np.asarray, again(X))), list(map(np.asarray, model(X))), atol=0)


def test_takes_keras_layers_and_any_cell():
    layer = stack(lambda: [keras.layers.GRU(4), kseq.layers.RNN(keras.layers.LSTMCell(3))])
    mask = MASKS["padding"]
    poisoned = np.where(mask[:, :, None], X, np.nan)
    clean, dirty = (outputs_and_gradients(layer, x, mask=mask, training=True) for x in (X, poisoned))
    assert_all_close(dirty[0] + dirty[1], clean[0] + clean[1], atol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [("mixed_float16", 5e-3), ("mixed_bfloat16", 4e-2)])
def test_half_precision_is_near(dtype, tolerance):
    options = {"return_sequences": True, "residual": True, "layer_norm": True}
    exact = stack(**options)(X)

    def make():
        return [LSTM(UNITS, dtype=dtype), GRU(UNITS, dtype=dtype), SimpleRNN(3, dtype=dtype)]

    outputs = stack(make, dtype=dtype, **options)(X)
    assert keras.backend.standardize_dtype(outputs.dtype) == dtype.removeprefix("mixed_")
    np.testing.assert_allclose(np.asarray(ops.cast(outputs, "float32")), exact, atol=4 * tolerance)


def test_deep_rnn_projects_every_step_or_the_last():
    deep = stack(kind=DeepRNN, output_units=2, return_sequences=True)
    plain = StackedRNN(deep.layers, return_sequences=True)
    hidden, mask = np.asarray(plain(X, mask=MASKS["padding"])), MASKS["padding"]
    logits = hidden @ np.asarray(deep.output_kernel) + np.asarray(deep.output_bias)
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    outputs = deep(X, mask=mask)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    last = stack(kind=DeepRNN, output_units=2)
    np.testing.assert_allclose(last(X, mask=mask), expected[:, -1], atol=1e-6)
    np.testing.assert_allclose(last(X, mask=mask)[1], outputs[1, 2], atol=1e-6)
    logits_only = stack(kind=DeepRNN, output_units=2, output_activation=None)
    np.testing.assert_allclose(logits_only(X, mask=mask), logits[:, -1], atol=1e-6)
    states = stack(kind=DeepRNN, output_units=2, return_state=True)
    shapes = [tuple(s.shape) for s in states(X)]
    assert shapes == [(BATCH, 2)] + [(BATCH, size) for size in (4, 4, 4, 3)]
    assert [s.shape[1:] for s in states(keras.Input((None, FEATURES)))] == [shape[1:] for shape in shapes]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StackedRNN([]), r"layers=\[\], but a StackedRNN needs a list"),
        (lambda: StackedRNN(LSTM(3)), "but a StackedRNN needs a list"),
        (lambda: StackedRNN([LSTM(3), kseq.cells.GRUCell(3)]), "Layer 1 of a StackedRNN is a GRUCell"),
        (lambda: StackedRNN([Bidirectional(LSTM(3))]), "Layer 0 of a StackedRNN is a Bidirectional"),
        (lambda: StackedRNN([LSTM(3, name="a")] * 2), "Layer 1 of a StackedRNN, a, is listed twice"),
        (lambda: StackedRNN([LSTM(3), GRU(3, go_backwards=True)]), r"go_backwards=True\)\."),
        (lambda: StackedRNN([LSTM(3, stateful=True)]), r"StackedRNN\(layers, stateful=True\)"),
        (lambda: StackedRNN([LSTM(3), GRU(3)])(X, initial_state=[X[:, 0, :3]]), "has 1 tensors, .* have 3 states"),
        (lambda: StackedRNN([LSTM(3)])(X, mask=np.ones((3, 5), bool)), r"expected mask of shape \(batch, time\)"),
    ],
)
def test_what_is_wrong_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()
