"""Parts that XLA compiles by themselves give what a plain graph gives, in every graph where they may be."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq.compiled_parts import compiles_parts
from kseq.engine import runner
from tests.contracts.cells import CELLS, FEATURES, draw_again, make
from tests.support import compiled_functions

SOME = [kseq.cells.LSTMCell]  # all others are marked slow
PARALLEL = kseq.cells.MinGRUCell | kseq.cells.MinLSTMCell | kseq.cells.RGLRUCell  # without a loop


@pytest.fixture(autouse=True)
def _default_setting():
    before = kseq.config.jit_compile()
    kseq.config.set_jit_compile("auto")
    yield
    kseq.config.set_jit_compile(before)


def random(*shape, dtype="float32"):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


def mask_of(lengths, steps):
    return np.arange(steps) < np.array(lengths)[:, None]


def graph_of(layer, *, masked=False, unknown=True, rank=3):
    """Return the graph of a layer's outputs, and of the gradients of a sum of them, in training."""
    dtype, sizes = layer.compute_dtype, [None, None] if unknown else [5, 7]
    signature = [tf.TensorSpec([*sizes, *[6] * (rank - 3), FEATURES], dtype)] + [tf.TensorSpec(sizes, "bool")] * masked

    def run(sequences, mask=None):
        with tf.GradientTape() as tape:
            tape.watch(sequences)
            outputs = tf.nest.flatten(layer(sequences, mask=mask, training=True))
            loss = sum(tf.reduce_sum(tf.sin(each)) for each in outputs)
        return outputs, tape.gradient(loss, [sequences, *layer.trainable_variables])

    return tf.function(run, autograph=False, input_signature=signature).get_concrete_function()


def check_cell(cell_class, *, masked, unknown=True):
    """Compare a plain graph with two graphs of equal layers, which share compiled parts."""
    rank = 3 + getattr(cell_class, "SPATIAL_RANK", 0)
    arguments = [random(5, 7, *[6] * (rank - 3), FEATURES, dtype="float64")]
    arguments += [mask_of([7, 0, 3, 1, 7], 7)] * masked
    results = []
    for setting in (False, True, True):
        layer = make(cell_class, dtype="float64")
        kseq.config.set_jit_compile(setting)
        graph = graph_of(layer, masked=masked, unknown=unknown, rank=rank)
        assert bool(compiled_functions(graph)) == setting
        draw_again(layer)
        results.append([np.asarray(each) for each in tf.nest.flatten(graph(*map(tf.constant, arguments)))])
    for got in results[1:]:
        for expected, each in zip(results[0], got, strict=True):
            np.testing.assert_allclose(each, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.long
@pytest.mark.parametrize("cell_class", SOME)
def test_outputs_and_gradients_are_those_of_a_plain_graph(cell_class):
    check_cell(cell_class, masked=True)


@pytest.mark.long
def test_without_mask_the_steps_of_the_padding_are_not_run():
    check_cell(kseq.cells.LSTMCell, masked=False)


@pytest.mark.long
def test_sizes_that_are_known_are_not_padded():
    check_cell(kseq.cells.GRUCell, masked=False, unknown=False)


@pytest.mark.slow
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cell_class", CELLS)
def test_outputs_and_gradients_of_all_cells(cell_class, masked):
    if not issubclass(cell_class, PARALLEL):
        check_cell(cell_class, masked=masked)


@pytest.mark.long
def test_ctc_loss_and_gradient_are_those_of_a_plain_graph():
    labels = np.array([[1, 2, 2], [3, -1, -1], [-1, -1, -1], [1, 1, 1], [2, 1, 9]])  # the last is no class
    logits, lengths = random(5, 6, 4, dtype="float64"), np.array([6, 3, 6, 4, 6])  # the fourth row is too short
    results = []
    for setting in (False, True):
        kseq.config.set_jit_compile(setting)

        @tf.function(
            autograph=False,
            input_signature=[
                tf.TensorSpec([None, None, 4], "float64"),
                tf.TensorSpec([None, None], "int64"),
                tf.TensorSpec([None], "int64"),
            ],
        )
        def run(logits, labels, lengths):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                counts = tf.reduce_sum(tf.cast(labels >= 0, "int32"), axis=1)
                losses = kseq.ctc_loss(labels, logits, counts, lengths)
            return losses, tape.gradient(losses, logits)

        graph = run.get_concrete_function()
        assert len(compiled_functions(graph)) == (2 if setting else 0)
        results.append(graph(*map(tf.constant, (logits, labels, lengths))))
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.long
def test_two_directions_and_two_graphs_share_two_compiled_functions():
    layer = kseq.layers.Bidirectional(kseq.layers.LSTM(4, return_sequences=True))
    layer.build((None, None, FEATURES))
    names = [compiled_functions(graph_of(layer, masked=True)) for _ in range(2)]
    assert len(names[0]) == 2  # forward and backward
    assert names[0] == names[1]


@pytest.mark.long
def test_the_last_layer_of_a_stack_shares_the_functions_of_those_below():
    stack = keras.Sequential([kseq.layers.SimpleRNN(5, return_sequences=True), kseq.layers.SimpleRNN(5)])
    stack.build((None, None, FEATURES))
    graph = graph_of(stack)
    assert len(compiled_functions(graph)) == 2
    kseq.config.set_jit_compile(False)
    sequences = tf.constant(random(3, 4, FEATURES))
    for expected, got in zip(*map(tf.nest.flatten, (graph_of(stack)(sequences), graph(sequences))), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_layers_that_differ_share_nothing():
    graphs = []
    for options in ({}, {"activation": "relu"}, {"return_sequences": True}):
        layer = kseq.layers.SimpleRNN(4, **options)
        layer.build((None, None, FEATURES))
        graphs.append(set(compiled_functions(graph_of(layer))))
    assert all(graphs)
    assert not graphs[0] & graphs[1]
    assert not graphs[0] & graphs[2]


def small_model(**options):
    model = keras.Sequential(
        [keras.Input((None, FEATURES)), kseq.layers.SimpleRNN(4, **options), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    return model


@pytest.fixture
def decisions(monkeypatch):
    """The list of the decisions that recurrent layers take while graphs are built: whether a part is compiled."""
    taken = []

    def decide(tensors, **options):
        taken.append(compiles_parts(tensors, **options))
        return taken[-1]

    monkeypatch.setattr(runner, "compiles_parts", decide)
    return taken


def of_fit_evaluate_and_predict(model, decisions):
    data, found = (random(4, 6, FEATURES), random(4, 1)), []
    for call in (model.fit, model.evaluate):
        decisions.clear()
        call(*data, batch_size=4, verbose=0)
        found.append(any(decisions))
    decisions.clear()
    model.predict(data[0], verbose=0)
    return [*found, any(decisions)]


@pytest.mark.long
def test_fit_evaluate_and_predict_compile_parts_by_default(decisions):
    assert of_fit_evaluate_and_predict(small_model(), decisions) == [True, True, True]


@pytest.mark.long
def test_settings_turn_it_off(decisions):
    kseq.config.set_jit_compile(False)
    assert of_fit_evaluate_and_predict(small_model(), decisions) == [False, False, False]


@pytest.mark.long
def test_the_setting_of_a_layer_takes_precedence():
    kseq.config.set_jit_compile(False)
    layer = kseq.layers.SimpleRNN(4, jit_compile=True)
    layer.build((None, None, FEATURES))
    assert compiled_functions(graph_of(layer))
    kseq.config.set_jit_compile("auto")
    layer = kseq.layers.SimpleRNN.from_config(kseq.layers.SimpleRNN(4, jit_compile=False).get_config())
    layer.build((None, None, FEATURES))
    assert not compiled_functions(graph_of(layer))
    with kseq.config.jit_compile_scope(False):
        layer = kseq.layers.SimpleRNN(4)
        layer.build((None, None, FEATURES))
        assert not compiled_functions(graph_of(layer))
    assert kseq.config.jit_compile() == "auto"


@pytest.mark.parametrize("value", ["yes", 1, None, np.True_])
def test_other_settings_are_refused(value):
    for refuse in (kseq.config.set_jit_compile, lambda value: kseq.layers.GRU(2, jit_compile=value)):
        with pytest.raises(ValueError, match="it must be 'auto', True or False"):
            refuse(value)


@pytest.mark.long
def test_graphs_that_may_be_exported_have_no_compiled_parts(tmp_path):
    model = small_model()
    model.fit(random(4, 6, FEATURES), random(4, 1), verbose=0)
    model.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "exported")
    assert not compiled_functions(loaded.signatures["serving_default"])
    own = tf.function(model, autograph=False, input_signature=[tf.TensorSpec([None, None, FEATURES])])
    assert not compiled_functions(own.get_concrete_function())


@pytest.mark.long
def test_exports_while_a_model_is_fitted_or_a_tape_is_active_have_no_compiled_parts(tmp_path):
    model, layer = small_model(jit_compile=True), kseq.layers.SimpleRNN(4, jit_compile=True)

    def export(name):
        model.export(tmp_path / name, verbose=False)
        assert not compiled_functions(tf.saved_model.load(tmp_path / name).signatures["serving_default"])

    at_end = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: export("in fit"))
    model.fit(random(4, 6, FEATURES), random(4, 1), verbose=0, callbacks=[at_end])
    with tf.GradientTape():
        export("under a tape")
    model = keras.Sequential([keras.Input((None, FEATURES)), layer])
    kseq.export_saved_model(model, tmp_path / "ours", inputs="features", answers="vectors", buckets=(4,))
    graph = tf.saved_model.load(str(tmp_path / "ours" / "1")).signatures["serving_default"]
    assert not compiled_functions(graph)


@pytest.mark.long
def test_forward_mode_differentiation_uses_a_plain_graph():
    layer = kseq.layers.SimpleRNN(4)
    layer.build((None, None, FEATURES))
    sequences = tf.constant(random(2, 3, FEATURES))
    function = tf.function(lambda x: layer(x, training=True), autograph=False)
    with tf.autodiff.ForwardAccumulator(sequences, tf.ones_like(sequences)) as accumulator:
        outputs = function(sequences)
    shifted = layer(sequences + 1e-3), layer(sequences - 1e-3)
    np.testing.assert_allclose(accumulator.jvp(outputs), (shifted[0] - shifted[1]) / 2e-3, rtol=1e-2, atol=1e-3)


def in_both_settings(function, shape):
    """Return what `(layer, sequences) -> nest of tensors` gives in a plain graph and with compiled parts."""
    layer, found = kseq.layers.SimpleRNN(4, return_state=True), []
    layer.build((None, None, FEATURES))
    for setting in (False, True):
        kseq.config.set_jit_compile(setting)
        graph = tf.function(lambda sequences: function(layer, sequences), autograph=False)
        found.append(graph(tf.constant(random(*shape))))
    return found


@pytest.mark.long
@pytest.mark.parametrize("rows", [3, 5])
def test_gradients_of_gathered_rows(rows):
    """They are `tf.IndexedSlices`, and the same compiled functions must then take dense gradients."""

    def gradient(layer, sequences):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(sequences)
            gathered = tf.reduce_sum(tf.gather(layer(sequences, training=True)[1], [1, 0]) ** 2)
            dense = tf.reduce_sum(layer(sequences, training=True)[1] ** 2)
        return tape.gradient(gathered, sequences), tape.gradient(dense, sequences)

    for expected, got in zip(*in_both_settings(gradient, (rows, 2, FEATURES)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_layers_without_a_complete_configuration_are_compiled_by_themselves():
    class Positive(keras.constraints.Constraint):
        def __call__(self, w):
            return keras.ops.maximum(w, 0)

        def get_config(self):
            raise NotImplementedError

    options = {"kernel_constraint": Positive(), "kernel_initializer": lambda shape, dtype: keras.ops.ones(shape, dtype)}
    layer = kseq.layers.SimpleRNN(4, **options)
    layer.build((None, None, FEATURES))
    assert len(compiled_functions(graph_of(layer))) == 2


@pytest.mark.long
@pytest.mark.parametrize("setting", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_weights_get_their_gradients_through_a_condition(setting, training):
    """The gradient of a condition is a graph of its own, which uses tensors of the branch."""
    kseq.config.set_jit_compile(setting)
    layer = kseq.layers.SimpleRNN(4)
    layer.build((None, None, FEATURES))

    def gradients(sequences, choose):
        with tf.GradientTape() as tape:
            outputs = choose(lambda: layer(sequences, training=training))
            loss = tf.reduce_sum(outputs**2)
        return tape.gradient(loss, layer.trainable_variables)

    sequences = tf.constant(random(2, 3, FEATURES))
    expected = gradients(sequences, lambda branch: branch())
    in_graph = tf.function(
        lambda x, go: gradients(x, lambda branch: tf.cond(go, branch, lambda: tf.zeros([2, 4]))), autograph=False
    )
    for got, wanted in zip(in_graph(sequences, tf.constant(True)), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_a_users_cell_is_compiled_only_if_its_layer_says_so():
    class Mine(kseq.cells.SimpleRNNCell):
        pass

    for setting, expected in (("auto", False), (True, True)):
        layer = kseq.layers.RNN(Mine(4), jit_compile=setting)
        layer.build((None, None, FEATURES))
        assert bool(compiled_functions(graph_of(layer))) == expected


@pytest.mark.long
def test_half_precision_and_convolutions_are_not_compiled_by_default():
    half = kseq.layers.SimpleRNN(4, dtype="mixed_bfloat16")
    convolutional = kseq.layers.RNN(kseq.cells.ConvLSTMCell(2, 3))
    for layer, shape in ((half, (None, None, FEATURES)), (convolutional, (None, None, 6, 6, FEATURES))):
        layer.build(shape)
        assert not compiled_functions(graph_of(layer, rank=len(shape)))


def test_compiled_graphs_and_distributed_ones_have_no_parts():
    layer = kseq.layers.SimpleRNN(4, jit_compile=True)
    layer.build((2, 3, FEATURES))
    whole = tf.function(layer, autograph=False, jit_compile=True).get_concrete_function(tf.zeros((2, 3, FEATURES)))
    assert not compiled_functions(whole)
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        plain = tf.function(layer, autograph=False).get_concrete_function(tf.zeros((2, 3, FEATURES)))
    assert not compiled_functions(plain)


@pytest.mark.long
def test_second_gradients_are_those_of_a_plain_graph():
    def gradient(layer, sequences):
        with tf.GradientTape() as outer:
            outer.watch(sequences)
            with tf.GradientTape() as inner:
                inner.watch(sequences)
                loss = tf.reduce_sum(layer(sequences, training=True)[1] ** 2)
            penalty = tf.reduce_sum(inner.gradient(loss, sequences) ** 2)
        return outer.gradient(penalty, sequences)

    expected, got = in_both_settings(gradient, (2, 4, FEATURES))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)  # float32


@pytest.mark.long
def test_a_second_gradient_that_is_taken_outside_the_function_says_the_way_out():
    layer = kseq.layers.SimpleRNN(4, jit_compile=True)
    layer.build((None, None, FEATURES))
    function = tf.function(lambda x: tf.reduce_sum(layer(x, training=True) ** 2), autograph=False)
    sequences = tf.constant(random(2, 4, FEATURES))
    with tf.GradientTape() as outer:
        outer.watch(sequences)
        with tf.GradientTape() as inner:
            inner.watch(sequences)
            loss = function(sequences)
        with pytest.warns(UserWarning, match="compiles by itself"):
            penalty = tf.reduce_sum(inner.gradient(loss, sequences) ** 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="or use nested tapes inside one function"):
        outer.gradient(penalty, sequences)


@pytest.mark.long
def test_gradients_inside_maps_over_rows():
    layer = kseq.layers.GRU(4, jit_compile=True)
    layer.build((None, None, FEATURES))

    def of_row(row):
        with tf.GradientTape() as tape:
            tape.watch(row)
            loss = tf.reduce_sum(layer(row[None], training=True) ** 2)
        return tape.gradient(loss, row)

    maps = tf.function(lambda rows: (tf.map_fn(of_row, rows), tf.vectorized_map(of_row, rows)), autograph=False)
    one_by_one, at_once = maps(tf.constant(random(3, 4, FEATURES)))
    np.testing.assert_allclose(at_once, one_by_one, rtol=1e-5, atol=1e-6)
