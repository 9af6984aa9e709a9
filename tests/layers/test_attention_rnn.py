"""The recurrent layer with attention: its two forms, masks, dropout, saving and what TensorFlow Addons computed."""

import keras
import numpy as np
import pytest
from keras import ops, tree

import kseq
from kseq.attention import (
    AdditiveAttention,
    CoverageAttention,
    DotProductAttention,
    LocalAttention,
    LocationSensitiveAttention,
    MonotonicAttention,
    MultiHeadAttention,
)
from tests.support import assert_all_close, outputs_and_gradients

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(3, 4, 5)).astype("float32")
MEMORY = RANDOM.normal(size=(3, 6, 7)).astype("float32")
MASK = np.arange(4) < np.array([4, 2, 3])[:, None]
MEMORY_MASK = np.arange(6) < np.array([6, 3, 0])[:, None]
CELLS = {
    "LSTM": lambda: kseq.cells.LSTMCell(4),
    "stack": lambda: [kseq.cells.GRUCell(3), kseq.cells.GRUCell(4)],
    "Keras's": lambda: keras.layers.GRUCell(4),  # run step by step
}
MECHANISMS = {
    "one": lambda: AdditiveAttention(3),
    "with steps": lambda: LocalAttention(DotProductAttention(general=True, units=4), 2),
    "several": lambda: [
        LocationSensitiveAttention(3, 2, 3),
        CoverageAttention(MonotonicAttention(3, hard=False, noise=0.0)),
    ],
}
OPTIONS = {
    "feeding": {"attention_layer_size": 6, "attention_activation": "tanh"},
    "no feeding": {"input_feeding": False},
}


def make(cell="LSTM", mechanism="one", **options):
    return kseq.layers.AttentionRNN(CELLS[cell](), MECHANISMS[mechanism](), return_sequences=True, **options)


def step_by_step(layer, inputs, memories, training=False):
    """Return the outputs of `step` at all steps, with the states held at padded ones."""
    memory = layer.memory(memories, MEMORY_MASK)
    state, held, outputs = layer.initial_state(3, memory), 0.0, []
    for time in range(4):
        output, new, _ = layer.step(inputs[:, time], state, memory, training=training)
        real = MASK[:, time]
        held = ops.where(real[:, None], output, held)
        state = tree.map_structure(
            lambda a, b, m=real: ops.where(m[:, None] if len(a.shape) == 2 else m, a, b), new, state
        )
        outputs.append(held)
    return ops.stack(outputs, axis=1)


class Steps(keras.Model):
    """The layer step by step, with the same weights."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs, memories, training=False):
        return step_by_step(self.layer, inputs, memories, training)


@pytest.mark.long
@pytest.mark.long_on_jax
@pytest.mark.parametrize(
    ("cell", "mechanism", "options"),
    [
        ("LSTM", "one", "feeding"),
        ("LSTM", "with steps", "no feeding"),
        pytest.param("stack", "several", "feeding", marks=pytest.mark.long_on_jax),
        ("Keras's", "several", "feeding"),
    ],
)
def test_the_layer_equals_its_steps(cell, mechanism, options):
    layer = make(cell, mechanism, **OPTIONS[options])
    masks = {"mask": MASK, "memory_masks": MEMORY_MASK}
    layer(INPUTS, MEMORY, **masks)
    got = outputs_and_gradients(layer, INPUTS, memories=MEMORY, training=True, **masks)
    expected = outputs_and_gradients(Steps(layer), INPUTS, memories=MEMORY, training=True)
    assert_all_close(got[0], expected[0], atol=1e-5)
    assert_all_close(got[1], expected[1], atol=1e-4)


@pytest.mark.long
@pytest.mark.long_on_jax
def test_padding_never_changes_a_result():
    layer = make("LSTM", "several", return_state=True, alignment_history=True)
    masks = {"mask": MASK, "memory_masks": MEMORY_MASK}
    expected = tree.flatten(layer(INPUTS, MEMORY, **masks))
    inputs, memory = INPUTS.copy(), MEMORY.copy()
    inputs[~MASK], memory[~MEMORY_MASK] = np.nan, np.nan
    for one, other in zip(tree.flatten(layer(inputs, memory, **masks)), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    for row in range(3):
        short = {"mask": None, "memory_masks": MEMORY_MASK[row : row + 1]}
        outputs, *_ = layer(INPUTS[row : row + 1, : MASK[row].sum()], MEMORY[row : row + 1], **short)
        np.testing.assert_allclose(outputs[0], np.asarray(expected[0])[row, : MASK[row].sum()], atol=1e-6)


def test_what_is_returned():
    layer = kseq.layers.AttentionRNN(CELLS["LSTM"](), AdditiveAttention(3), return_state=True, alignment_history=True)
    last, state, weights = layer(INPUTS, MEMORY, mask=MASK, memory_masks=MEMORY_MASK)
    layer.return_sequences = True
    outputs, *_ = layer(INPUTS, MEMORY, mask=MASK, memory_masks=MEMORY_MASK)
    np.testing.assert_array_equal(last, np.asarray(outputs)[:, -1])  # held at padded steps
    np.testing.assert_array_equal(last, state.attention)
    assert last.shape == (3, 7)  # the context
    assert [each.shape for each in state.cell] == [(3, 4), (3, 4)]
    assert weights.shape == (3, 4, 6)
    real = MASK * MEMORY_MASK.any(1)[:, None]
    np.testing.assert_allclose(np.asarray(weights).sum(-1), real, atol=1e-6)
    again = layer(INPUTS[:, 2:], MEMORY, layer(INPUTS[:, :2], MEMORY)[1])[0]  # go on from a state
    np.testing.assert_allclose(again, np.asarray(layer(INPUTS, MEMORY)[0])[:, 2:], atol=1e-6)


@pytest.mark.long
def test_a_functional_model_saves_and_honours_implicit_masks(tmp_path):
    ids, source = keras.Input((None,), dtype="int32"), keras.Input((None,), dtype="int32")
    embed = keras.layers.Embedding(9, 5, mask_zero=True)
    layer = make("stack", "several", alignment_history=True)
    outputs, weights = layer(embed(ids), embed(source))
    assert outputs.shape == (None, None, 10)
    model = keras.Model([ids, source], [outputs, weights])
    values = RANDOM.integers(1, 9, size=(3, 4)) * MASK, RANDOM.integers(1, 9, size=(3, 6)) * MEMORY_MASK
    expected = tree.flatten(model(values))
    masks = {"mask": MASK, "memory_masks": MEMORY_MASK}
    own = tree.flatten(layer(np.asarray(embed(values[0])), np.asarray(embed(values[1])), **masks))
    assert_all_close([np.asarray(x) for x in expected], [np.asarray(x) for x in own], atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = tree.flatten(keras.saving.load_model(tmp_path / "model.keras")(values))
    assert_all_close([np.asarray(x) for x in loaded], [np.asarray(x) for x in expected], atol=1e-6)


@pytest.mark.long_on_jax
@pytest.mark.parametrize(
    "cell",
    [
        lambda: kseq.cells.LSTMCell(4, dropout=0.5, recurrent_dropout=0.5, seed=1),
        lambda: kseq.cells.ZoneoutCell(kseq.cells.LSTMCell(4), 0.5, seed=1),  # draws at each step
    ],
)
def test_cells_and_mechanisms_drop_in_training_only(cell):
    layer = kseq.layers.AttentionRNN(cell(), AdditiveAttention(3, dropout=0.5, seed=2), return_sequences=True)
    outputs = [np.asarray(layer(INPUTS, MEMORY, training=training)) for training in (False, False, True, True)]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.allclose(outputs[1], outputs[2])
    assert not np.allclose(outputs[2], outputs[3])


def test_a_cell_drops_the_same_units_at_all_steps():
    cell = kseq.cells.SimpleRNNCell(4, dropout=0.5, seed=1, activation=None, bias_initializer="ones")
    layer = kseq.layers.AttentionRNN(cell, DotProductAttention(), input_feeding=False, output_attention=False)
    layer.return_sequences = True
    layer(np.ones((3, 4, 4), "float32"), np.zeros((3, 6, 4), "float32"))
    cell.kernel.assign(np.eye(4))
    cell.recurrent_kernel.assign(np.zeros((4, 4)))
    outputs = np.asarray(layer(np.ones((3, 4, 4), "float32"), np.zeros((3, 6, 4), "float32"), training=True))
    assert set(outputs.flatten()) == {1.0, 3.0}
    np.testing.assert_array_equal(outputs, np.tile(outputs[:, :1], (1, 4, 1)))


@pytest.mark.long
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.server)])  # XLA takes seconds
def test_a_compiled_train_step_equals_the_eager_one(whole):
    """A graph of unknown sizes, whose loop XLA compiles by itself, padded; and a graph that XLA compiles as a whole."""
    import tensorflow as tf

    cell = kseq.cells.GRUCell(4, dropout=0.3, recurrent_dropout=0.3, seed=1)
    layer = kseq.layers.AttentionRNN(cell, MECHANISMS["several"](), return_state=True, **OPTIONS["feeding"])
    layer(INPUTS, MEMORY)

    def train_step(inputs, memory):
        with tf.GradientTape() as tape:
            tape.watch([inputs, memory])
            output, *_, state = tree.flatten(layer(inputs, memory, mask=MASK, memory_masks=MEMORY_MASK, training=True))
            loss = tf.reduce_sum(output**2) + tf.reduce_sum(state)
        gradients = tape.gradient(loss, [inputs, memory, *layer.trainable_variables], unconnected_gradients="zero")
        return [output, *gradients]

    results, seed = [], np.array(cell.seed_generator.state)
    shapes = [tf.TensorSpec(x.shape if whole else (None, None, x.shape[2])) for x in (INPUTS, MEMORY)]
    for function in (train_step, tf.function(train_step, input_signature=shapes, autograph=False, jit_compile=whole)):
        cell.seed_generator.state.assign(seed)
        compilations = kseq.config.compilations()
        with kseq.config.jit_compile_scope(True):
            results.append([np.asarray(x) for x in function(tf.constant(INPUTS), tf.constant(MEMORY))])
    assert (kseq.config.compilations() > compilations) is not whole
    assert_all_close(results[1], results[0], atol=1e-5)


@pytest.mark.long
def test_cell_and_mechanisms_have_the_precision_of_the_layer():
    given = {"cell": "stack", "mechanism": "several", **OPTIONS["feeding"]}
    layer, half = make(**given), make(**given, dtype="mixed_float16")
    assert {each.compute_dtype for each in half._flatten_layers()} == {"float16"}
    expected = layer(INPUTS, MEMORY)
    half(INPUTS, MEMORY)
    half.set_weights(layer.get_weights())
    np.testing.assert_allclose(ops.cast(half(INPUTS, MEMORY), "float32"), expected, atol=5e-3)
    # A part with a precision of its own keeps it, also when it is loaded.
    cell, built = kseq.cells.LSTMCell(4, dtype="float64"), AdditiveAttention(3)
    built.build((None, 4), (None, 6, 7))
    mixed = kseq.layers.AttentionRNN(cell, built, dtype="mixed_float16")
    assert mixed.cell is cell
    assert mixed.mechanisms == [built]
    again = kseq.layers.AttentionRNN.from_config(mixed.get_config())
    assert [again.compute_dtype, again.cell.compute_dtype] == ["float16", "float64"]


@pytest.mark.long
@pytest.mark.long_on_jax
def test_mixed_precision_is_near():
    layer = make("LSTM", "several", **OPTIONS["feeding"])
    expected = layer(INPUTS, MEMORY, memory_masks=MEMORY_MASK)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = make("LSTM", "several", **OPTIONS["feeding"])
        half(INPUTS, MEMORY)
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(layer.get_weights())
    got = half(INPUTS, MEMORY, memory_masks=MEMORY_MASK, training=False)
    assert keras.backend.standardize_dtype(got.dtype) == "float16"
    np.testing.assert_allclose(ops.cast(got, "float32"), expected, atol=5e-3)


@pytest.mark.parametrize(
    ("make_layer", "message"),
    [
        (lambda: make(attention_layer_size=[3, 4]), r"attention_layer_size=\[3, 4\], but there are 1 mechanisms"),
        (lambda: make(attention_layer_size=0), "attention_layer_size=0, but AttentionRNN needs a positive int"),
        (lambda: make(attention_activation="tanh"), "Give its attention_layer_size"),
        (lambda: kseq.layers.AttentionRNN(CELLS["LSTM"](), []), "empty list of mechanisms"),
        (lambda: kseq.layers.AttentionRNN(CELLS["LSTM"](), 3), "takes mechanisms of kseq.attention, .*, not 3"),
        (
            lambda: kseq.layers.AttentionRNN(CELLS["LSTM"](), [MultiHeadAttention(2, 2, causal=True)]),
            "has causal=True and positions=None, .* but that of a AttentionRNN reads another one",
        ),
        (lambda: make()(INPUTS, [MEMORY, MEMORY]), "got 2 memories for 1 mechanisms"),
        (lambda: make()(INPUTS, MEMORY, memory_masks=MASK), r"mask has shape \(3, 4\)"),
        (lambda: make()(INPUTS, MEMORY, mask=MEMORY_MASK), r"mask has shape \(3, 6\)"),
        (lambda: make()(INPUTS, MEMORY, [np.zeros((3, 4))]), "initial_state has 1 tensors, but the cell has 2 states"),
    ],
)
def test_says_what_is_wrong(make_layer, message):
    with pytest.raises(ValueError, match=message):
        make_layer()


@pytest.mark.parametrize(
    ("mechanism", "gain", "output", "hidden", "cell", "weights", "history"),
    [
        (lambda: AdditiveAttention(3, use_bias=False), None, -0.003204414, 0.40868404, 0.89017969, 0.125, 0.125),
        (lambda: MonotonicAttention(3, noise=0.0), 3**0.5, -0.009921653, 0.44612807, 0.95786464, 0.09778417, 0.1026158),
        (lambda: MonotonicAttention(3, noise=0.0), 3**-0.5, 0.007140680, 0.47012400, 1.0249618, 0.0615656, 0.07909643),
    ],
)
def test_equals_tensorflow_addons(mechanism, gain, output, hidden, cell, weights, history):
    """The means that attention_wrapper_test.py of TensorFlow Addons 0.23 states for its random numbers."""
    import tensorflow as tf
    from tensorflow.python.eager import context

    random = np.random.RandomState(87654321)
    (
        random.randn(64, 10, 256),
        random.randint(1, high=10, size=64),
        random.randn(64, 12, 128),
        random.randint(12, size=64),
    )
    inputs, memory = random.randn(5, 4, 7).astype("float32"), random.randn(5, 8, 10).astype("float32")
    ones = {"kernel_initializer": "ones", "recurrent_initializer": "ones"}
    layer = kseq.layers.AttentionRNN(
        kseq.cells.LSTMCell(9, **ones),
        mechanism(),
        attention_layer_size=6,
        return_sequences=True,
        return_state=True,
        alignment_history=True,
    )
    layer(inputs, memory)
    energy = getattr(layer.mechanisms[0], "mechanism", layer.mechanisms[0])
    for weight in (energy.query_layer.kernel, energy.memory_layer.kernel, energy.v):
        weight.assign(np.ones(weight.shape))
    if gain is not None:  # 1 without normalisation is sqrt(3) with it
        energy.gain.assign(gain)
    tf.random.set_seed(87654321)
    context.context().clear_kernel_cache()  # TensorFlow's initializer begins anew, see conftest.py
    layer.attention_layers[0].kernel.assign(tf.compat.v1.glorot_uniform_initializer(seed=1337)((19, 6)))
    masks = {"memory_masks": np.arange(8) < np.array([3, 2, 3, 1, 1])[:, None]}
    outputs, state, every = layer(inputs[:, :3], memory, training=True, **masks)
    got = [np.mean(x) for x in (outputs, *state.cell, every[:, -1], every)]
    np.testing.assert_allclose(got, [output, hidden, cell, weights, history], rtol=1e-4, atol=1e-6)
