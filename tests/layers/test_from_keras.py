"""`from_keras`: equal outputs, gradients, masks and training; which layers are replaced."""

import keras
import numpy as np
import pytest
from keras import layers

import kseq
from kseq.layers import from_keras
from tests.support import assert_all_close, keras_may_lose_masks, outputs_and_gradients

pytestmark = keras_may_lose_masks
IDS = np.array([[1, 2, 3, 4, 0, 0], [5, 6, 0, 0, 0, 0], [7, 8, 9, 1, 2, 3]])
X = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")


def model_with_everything():
    inner_inputs = keras.Input((None, 4))
    inner = keras.Sequential([inner_inputs, layers.SimpleRNN(4, name="simple_rnn")], name="inner")
    inputs = keras.Input((None,), dtype="int32")
    keeps_masks = layers.GRU(1).supports_masking  # not from Keras 3.16 on
    values = layers.Embedding(12, 5, mask_zero=keeps_masks)(inputs)
    values = layers.Bidirectional(layers.LSTM(3, return_sequences=True, name="lstm"), name="bidirectional")(values)
    values = layers.RNN(layers.StackedRNNCells([layers.LSTMCell(4), layers.GRUCell(3)]), return_sequences=True)(values)
    values = layers.GRU(4, reset_after=False)(values)
    values = inner(layers.RepeatVector(3)(values))
    return keras.Model(inputs, layers.Dense(2)(values), name="everything")


@pytest.mark.long
def test_results_masks_and_training_are_equal(tmp_path, capsys):
    model = model_with_everything()
    model.compile("adam", "mse")
    model.train_on_batch(IDS, np.ones((3, 2)))
    new = from_keras(model)
    np.testing.assert_allclose(new(IDS), model(IDS), atol=1e-6)
    assert [layer.name for layer in new.layers] == [layer.name for layer in model.layers]
    assert new.name == "everything"
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "bidirectional: keras.layers.Bidirectional -> kseq.layers.Bidirectional"
    assert said[1] == "bidirectional/forward_lstm: keras.layers.LSTM -> kseq.layers.LSTM"
    assert said[-1] == "inner/simple_rnn: keras.layers.SimpleRNN -> kseq.layers.SimpleRNN"
    assert len(said) == 9  # Bidirectional and both directions, SimpleRNN, RNN with a stack and two cells, GRU
    for each in (model, new):
        each.train_on_batch(IDS, np.ones((3, 2)))
    assert_all_close(new.get_weights(), model.get_weights(), atol=1e-6)  # with Adam's state
    new.save(tmp_path / "new.keras")
    loaded = keras.saving.load_model(tmp_path / "new.keras")
    np.testing.assert_allclose(loaded(IDS), new(IDS), atol=1e-6)
    assert {type(layer).__module__.split(".")[0] for layer in loaded.layers[2:5]} == {"kseq"}


@pytest.mark.long
@pytest.mark.parametrize("lengths", [[5, 5, 5], [5, 3, 1]], ids=["no padding", "padding"])
def test_gradients_are_equal(lengths):
    inputs = keras.Input((5, 4))
    values = layers.Masking()(inputs)
    states = [layers.GRU(3, return_state=True, name="first")(values)[1]]
    outputs = layers.Bidirectional(layers.LSTM(3), name="second")(values)
    model = keras.Model(inputs, [outputs, layers.GRU(3, name="third")(inputs, initial_state=states)])
    new = from_keras(model, verbose=False)
    x = X * (np.arange(5)[None] < np.array(lengths)[:, None])[..., None]
    got, expected = (outputs_and_gradients(each, x, training=True) for each in (new, model))
    for one, other in zip(got, expected, strict=True):
        assert_all_close(one, other, atol=1e-5)


def test_sequential_models_wrappers_and_options():
    model = keras.Sequential(
        [keras.Input((3, 5, 4)), layers.TimeDistributed(layers.LSTM(3, dropout=0.2, trainable=False))]
    )
    new = from_keras(model, verbose=False)
    inner = new.layers[0].layer
    assert isinstance(inner, kseq.layers.LSTM)
    assert (inner.cell.dropout, inner.trainable) == (0.2, False)
    values = np.repeat(X[:, None], 3, axis=1)
    np.testing.assert_allclose(new(values), model(values), atol=1e-6)
    assert not from_keras(keras.Sequential([layers.LSTM(3)]), verbose=False).built


@pytest.mark.long
def test_what_is_frozen_stays_frozen():
    inputs = keras.Input((5, 4))
    own = layers.GRU(3, return_sequences=True, name="own")
    directions = layers.Bidirectional(layers.LSTM(3, return_sequences=True), name="directions")
    inner = keras.Sequential([keras.Input((5, 6)), layers.SimpleRNN(2, name="nested")], name="inner")
    cell = layers.RNN(layers.LSTMCell(3), return_sequences=True, name="cell")
    outputs = inner(directions(cell(own(layers.SimpleRNN(4, return_sequences=True)(inputs)))))
    model = keras.Model(inputs, outputs)

    def trained(model):
        return {weight.path for weight in model.trainable_weights}

    assert trained(from_keras(model, verbose=False)) == trained(model)
    for frozen in (own.cell, directions.forward_layer, cell, inner, model):
        frozen.trainable = False
        new = from_keras(model, verbose=False)
        assert [weight.trainable for weight in new.weights] == [weight.trainable for weight in model.weights]
        assert trained(new) == trained(model)
        for name in ("directions", "cell", "inner"):
            assert new.get_layer(name).trainable == model.get_layer(name).trainable
        assert new.get_layer("directions").forward_layer.trainable == directions.forward_layer.trainable
    assert not trained(new)
    assert not new.trainable


def test_own_cells_directions_and_stateful_layers():
    inputs = keras.Input(batch_shape=(3, 5, 4))
    directions = layers.Bidirectional(layers.LSTM(3), "sum", backward_layer=layers.GRU(3, go_backwards=True))
    own = layers.RNN([OwnCell(3), layers.LSTMCell(2)])
    model = keras.Model(inputs, [each(inputs) for each in (directions, own, layers.GRU(2, stateful=True))])
    new = from_keras(model, verbose=False)
    assert all(type(layer).__module__.startswith("kseq.") for layer in new.layers[1:])
    assert_all_close(new(X), model(X), atol=1e-6)


def test_shared_layers_stay_shared():
    shared, inputs = layers.GRU(4, return_sequences=True), keras.Input((None, 4))
    model = keras.Model(inputs, shared(shared(inputs)))
    new = from_keras(model, verbose=False)
    assert len(new.weights) == 3
    np.testing.assert_allclose(new(X), model(X), atol=1e-6)
    lower, upper = (keras.Sequential([keras.Input((None, 4)), shared]) for _ in range(2))
    with pytest.raises(ValueError, match="has 3 weights, but its copy 6"):
        from_keras(keras.Model(inputs, upper(lower(inputs))))


class OwnCell(layers.Layer):
    """A Keras cell, not registered with Keras."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.state_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.state_size), name="kernel")

    def call(self, inputs, states):
        hidden = keras.ops.tanh(inputs @ self.kernel + states[0])
        return hidden, [hidden]


class OwnModel(keras.Model):
    """A subclass with a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.layer = layers.LSTM(3)

    def call(self, inputs):
        return self.layer(inputs)


class OwnLayer(layers.Layer):
    """A layer, not registered with Keras, whose code makes a recurrent layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.layer = layers.LSTM(3)

    def build(self, shape):
        self.layer.build(shape)

    def call(self, inputs):
        return self.layer(inputs)


def test_what_cannot_be_replaced_is_said(capsys):
    with pytest.raises(ValueError, match="from_keras takes a Keras model, but got <LSTM"):
        from_keras(layers.LSTM(3))
    with pytest.raises(ValueError, match="OwnModel is a subclass whose layers its own code makes"):
        from_keras(OwnModel())
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, OwnLayer(name="own")(inputs))
    np.testing.assert_allclose(from_keras(model)(X), model(X), atol=1e-6)
    images = keras.Input((None, 6, 2))
    from_keras(keras.Model(images, layers.ConvLSTM1D(2, 3, name="conv")(images)))
    own, convolutional = capsys.readouterr().out.splitlines()
    assert own.startswith("own/lstm")
    assert "a layer of yours makes it" in own
    assert convolutional == "conv: ConvLSTM1D stays, because kseq.layers has no layer of this name"
