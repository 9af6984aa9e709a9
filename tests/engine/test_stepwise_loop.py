"""The loop for cells without equations: Keras's and users' cells, with inputs and outputs of any structure."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from tests.support import BACKEND, assert_all_close, compiled, outputs_and_gradients

BATCH, TIME = 3, 6
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(BATCH, TIME, 5)).astype("float32")
NESTED = {
    "ids": RANDOM.integers(0, 7, size=(BATCH, TIME)),
    "values": RANDOM.normal(size=(BATCH, TIME, 2, 3)).astype("float32"),
}
MASK = np.arange(TIME)[None] < np.array([[6], [3], [1]])


@keras.saving.register_keras_serializable(package="tests")
class NestedCell(keras.layers.Layer):
    """Inputs: a dict of ids (batch,) and values (batch, 2, 3). Outputs: a dict of (batch, 4), and of ids (batch,)."""

    state_size = ((4,), (2, 3))  # and no get_initial_state

    def build(self, input_shape):
        self.table = self.add_weight(shape=(7, 4), name="table")
        self.kernel = self.add_weight(shape=(3, 3), name="kernel")

    def call(self, inputs, states):
        hidden, total = states
        total = ops.tanh(total + ops.matmul(inputs["values"], self.kernel))
        hidden = ops.tanh(hidden + ops.take(self.table, inputs["ids"], axis=0) + ops.sum(total, axis=(1, 2))[:, None])
        return {"hidden": hidden, "seen": (inputs["ids"], total)}, (hidden, total)


@keras.saving.register_keras_serializable(package="tests")
class NoisyCell(keras.layers.Layer):
    """Contains layers that are not built, one of which draws random numbers at every step."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.state_size = 4
        self.dense, self.dropout = keras.layers.Dense(4), keras.layers.Dropout(0.5, seed=3)

    def call(self, inputs, states, training=False):
        noise = self.dropout(ops.ones((ops.shape(inputs)[0], 4)), training=training)
        return noise, [ops.tanh(self.dense(inputs) + states[0])]


class PlainObject:
    """The minimum that a cell needs."""

    state_size = 5

    def call(self, inputs, states):
        return states[0] + inputs, states[0] + inputs


def nested_layer(**options):
    layer = kseq.layers.RNN(NestedCell(), return_state=True, **options)
    layer.build({"ids": (None, None), "values": (None, None, 2, 3)})
    random = np.random.default_rng(1)
    layer.set_weights([random.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def arrays(nest):
    return [np.asarray(leaf) for leaf in keras.tree.flatten(nest)]


def stepwise(cell, inputs, lengths, state, backwards=False):
    """Each row run alone, step by step, to its length: outputs by row and step, and final states by row."""
    outputs, finals = [], []
    for row, length in enumerate(lengths):
        current, row_outputs = [s[row : row + 1] for s in state], []
        for time in reversed(range(length)) if backwards else range(length):
            step = keras.tree.map_structure(lambda x, r=row, t=time: x[r : r + 1, t], inputs)
            output, current = cell(step, current)
            row_outputs.append(arrays(output))
        outputs.append(row_outputs)
        finals.append(arrays(current))
    return outputs, finals


@pytest.mark.mostly_long("LSTMCell")
@pytest.mark.parametrize("make", [lambda: keras.layers.LSTMCell(4), lambda: keras.layers.StackedRNNCells(
    [keras.layers.LSTMCell(4), keras.layers.GRUCell(3)])], ids=["LSTMCell", "StackedRNNCells"])  # fmt: skip
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"return_sequences": True},
        {"return_sequences": True, "zero_output_for_mask": True, "unroll": True},
        {"return_sequences": True, "go_backwards": True},
    ],
    ids=str,
)
def test_equals_keras(make, options):
    theirs, ours = (rnn(make(), return_state=True, **options) for rnn in (keras.layers.RNN, kseq.layers.RNN))
    for layer in (theirs, ours):
        layer.build((None, TIME, 5))
    ours.set_weights(theirs.get_weights())
    for mask in (None, MASK):
        got = outputs_and_gradients(ours, X, mask=mask, training=True)
        expected = outputs_and_gradients(theirs, X, mask=mask, training=True)
        assert_all_close(got[0] + got[1], expected[0] + expected[1], atol=1e-5)
    spec, wanted = (keras.tree.flatten(layer(keras.Input((TIME, 5)))) for layer in (ours, theirs))
    assert [s.shape for s in spec] == [s.shape for s in wanted]


@pytest.mark.parametrize("options", [{}, {"go_backwards": True}, {"unroll": True}], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_nested_inputs_and_outputs(options, masked):
    lengths = [6, 3, 1] if masked else [TIME] * BATCH
    poisoned = NESTED
    if masked:
        values = np.where(MASK[:, :, None, None], NESTED["values"], np.nan)
        poisoned = {"ids": NESTED["ids"], "values": values.astype("float32")}
    state = [RANDOM.normal(size=(BATCH, 4)).astype("float32"), RANDOM.normal(size=(BATCH, 2, 3)).astype("float32")]
    layer = nested_layer(return_sequences=True, zero_output_for_mask=True, **options)
    backwards = layer.go_backwards
    outputs, *finals = layer(poisoned, initial_state=state, mask=MASK if masked else None)
    assert set(outputs) == {"hidden", "seen"}
    assert isinstance(outputs["seen"], tuple)
    expected, expected_finals = stepwise(layer.cell, NESTED, lengths, state, backwards)
    for row, length in enumerate(lengths):
        real = slice(TIME - length, TIME) if backwards else slice(length)
        for index, got in enumerate(arrays(outputs)):
            wanted = np.concatenate([step[index] for step in expected[row]])
            np.testing.assert_allclose(got[row, real], wanted, atol=1e-5)
            assert np.all(np.delete(got[row], range(TIME)[real], axis=0) == 0)
        for got, wanted in zip(finals, expected_finals[row], strict=True):
            np.testing.assert_allclose(got[row], wanted[0], atol=1e-5)
    last, *_ = nested_layer(**options)(poisoned, initial_state=state, mask=MASK if masked else None)
    assert_all_close([o[1] for o in arrays(last)], [o[0] for o in expected[1][-1]], atol=1e-5)


def test_padding_is_held_in_nested_outputs():
    outputs = arrays(nested_layer(return_sequences=True)(NESTED, mask=MASK)[0])
    for output in outputs:
        np.testing.assert_array_equal(output[1, 3:], np.repeat(output[1, 2:3], 3, axis=0))


def test_nested_gradients_reach_values_and_weights():
    """The gradient against central differences of the sum of the outputs, in one random direction."""
    layer = nested_layer(return_sequences=True)

    class OverValues(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.rnn = layer

        def call(self, values):
            outputs, *states = self.rnn({"ids": NESTED["ids"], "values": values}, mask=MASK)
            return [outputs["hidden"], outputs["seen"][1], *states]

    over = OverValues()
    _, (gradient, *weights) = outputs_and_gradients(over, NESTED["values"])
    assert all(np.any(w != 0) for w in weights)
    direction, step = RANDOM.normal(size=gradient.shape).astype("float32"), 1e-2

    def total(values):
        random = np.random.default_rng(0)  # the weights of outputs_and_gradients
        return sum(np.sum(np.asarray(o) * random.normal(size=o.shape)) for o in over(values))

    slope = (total(NESTED["values"] + step * direction) - total(NESTED["values"] - step * direction)) / (2 * step)
    np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=2e-3)


@pytest.mark.long
@pytest.mark.every_backend
def test_nested_functional_model_trains_compiled_and_is_saved(tmp_path):
    inputs = {"ids": keras.Input((None,), dtype="int32", name="ids")}
    inputs["values"] = keras.Input((None, 2, 3), name="values")
    outputs, *states = kseq.layers.RNN(NestedCell(), return_sequences=True, return_state=True)(inputs)
    assert outputs["hidden"].shape == (None, None, 4)
    assert (outputs["seen"][0].shape, outputs["seen"][0].dtype) == ((None, None), "int32")
    assert [s.shape for s in states] == [(None, 4), (None, 2, 3)]
    model = keras.Model(inputs, {"hidden": outputs["hidden"], "total": outputs["seen"][1]})
    model.compile("sgd", {"hidden": "mse", "total": "mse"}, jit_compile=True)
    targets = {"hidden": np.zeros((BATCH, TIME, 4)), "total": np.zeros((BATCH, TIME, 2, 3))}
    losses = model.fit(NESTED, targets, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_all_close(arrays(loaded(NESTED)), arrays(model(NESTED)), atol=1e-6)


def test_compute_output_shape_and_mask_of_nests():
    layer = kseq.layers.RNN(NestedCell(), return_sequences=True)
    shapes = layer.compute_output_shape({"ids": (None, 6), "values": (None, 6, 2, 3)})
    assert shapes == {"hidden": (None, 6, 4), "seen": ((None, 6), (None, 6, 2, 3))}
    ids = np.array([[1, 2, 0], [3, 0, 0]])
    embedded = keras.layers.Embedding(7, 5, mask_zero=True)(ids)
    joined = np.array([[True, False, False], [True, False, False]])
    masks = {"ids": ids != 0, "values": np.array([[True, False, False], [True, True, True]])}
    layer = nested_layer(return_sequences=True)
    nested = {"ids": ids, "values": np.ones((2, 3, 2, 3), "float32")}
    outputs, *_ = layer(nested, mask=masks)
    assert_all_close(arrays(outputs), arrays(layer(nested, mask=joined)[0]), atol=0)
    for output in keras.tree.flatten(outputs):
        np.testing.assert_array_equal(kseq.masking.implicit_mask(output), joined)
    pair = kseq.layers.RNN(PairCell(), return_sequences=True)((embedded, ops.ones((2, 3, 5))))
    np.testing.assert_array_equal(kseq.masking.implicit_mask(pair), ids != 0)


class PairCell(keras.layers.Layer):
    state_size = 5

    def call(self, inputs, states):
        return inputs[0] + inputs[1], states


def test_sequences_of_unlike_lengths_are_refused():
    with pytest.raises(ValueError, match=r"the same batch and time, but their shapes are \[\(2, 3, 5\), \(2, 4, 5\)\]"):
        kseq.layers.RNN(PairCell())((np.zeros((2, 3, 5)), np.zeros((2, 4, 5))))


@pytest.mark.every_backend
@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_an_object_with_a_call_and_a_state_size(wrap):
    layer = kseq.layers.RNN(PlainObject(), return_sequences=True, return_state=True)
    layer.build((None, None, 5))
    outputs, state = wrap(lambda x: layer(x))(X)
    np.testing.assert_allclose(outputs, np.cumsum(X, axis=1), atol=1e-5)
    np.testing.assert_allclose(state, X.sum(axis=1), atol=1e-5)


@pytest.mark.filterwarnings("ignore:.build... was called on layer 'noisy_cell")  # any layer without `build`
def test_layers_in_a_cell_are_built_with_the_model(tmp_path):
    inputs = keras.Input((None, 5))
    model = keras.Model(inputs, kseq.layers.RNN(NoisyCell(), return_state=True)(inputs))
    assert [tuple(w.shape) for w in model.weights] == [(5, 4), (4,)]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_all_close(arrays(loaded(X)), arrays(model(X)), atol=1e-6)


@pytest.mark.long
@pytest.mark.every_backend
@pytest.mark.parametrize("jit", [False, True])
def test_a_cell_draws_anew_at_every_step_and_call(jit):
    inputs = keras.Input((TIME, 5))
    model = keras.Model(inputs, kseq.layers.RNN(NoisyCell(), return_sequences=True)(inputs))
    draws = []
    for _ in range(2):
        if BACKEND == "jax":
            call = lambda t, n, x: model.stateless_call(t, n, x, training=True)  # noqa: E731
            values = [[v.value for v in vs] for vs in (model.trainable_variables, model.non_trainable_variables)]
            draw, new = (compiled(call) if jit else call)(*values, np.ones((64, TIME, 5), "float32"))
            for variable, value in zip(model.non_trainable_variables, new, strict=True):
                variable.assign(value)
        else:
            call = lambda x: model(x, training=True)  # noqa: E731
            draw = (compiled(call) if jit else call)(np.ones((64, TIME, 5), "float32"))
        draws.append(np.asarray(draw))
    steps = np.concatenate(draws, axis=1).transpose(1, 0, 2)  # (2 * time, batch, units)
    assert set(np.unique(steps)) == {0.0, 2.0}
    assert len({step.tobytes() for step in steps}) == 2 * TIME


@keras.saving.register_keras_serializable(package="tests")
class DictLSTMCell(keras.layers.LSTMCell):
    """Keras's cell with dropout, over a dict."""

    def build(self, input_shape):
        super().build(input_shape["x"])

    def call(self, inputs, states, training=False):
        _, states = super().call(inputs["x"], states, training=training)
        return self.get_dropout_mask(inputs["x"]) if training else inputs["x"], states


@pytest.mark.long
@pytest.mark.every_backend
def test_dropout_masks_are_made_once_for_all_steps_of_nested_inputs():
    layer = kseq.layers.RNN(DictLSTMCell(4, dropout=0.5, seed=1), return_sequences=True)
    layer.build({"x": (None, None, 5)})
    first, second = (np.asarray(compiled_once(layer)) for _ in range(2))
    assert set(np.unique(first)) == {0.0, 2.0}
    assert np.all(first == first[:, :1])
    assert np.any(first != second)


def compiled_once(layer):
    ones = {"x": np.ones((64, TIME, 5), "float32")}
    if BACKEND == "jax":
        return layer(ones, training=True)
    return compiled(lambda: layer(ones, training=True))()


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda x, states: (x, keras.ops.stack(states)), r"new states of shapes \[\(1, 2, 3\)\], .* \[\(2, 3\)\]"),
        (lambda x, states: x, "must return .output, .new states.., but it returned a "),
        (lambda x, states: (x, states, 1), "but it returned 3 values"),
        (lambda x, states: (x, []), r"new states of shapes \[\]"),
    ],
)
def test_a_cell_that_returns_something_else_is_refused(result, message):
    class Wrong(keras.layers.Layer):
        state_size = output_size = 3

        def call(self, inputs, states):
            return result(inputs, states)

    with pytest.raises(ValueError, match=message):
        kseq.layers.RNN(Wrong())(np.zeros((2, 4, 3), "float32"))
