"""Parts that XLA compiles in calls outside graphs, and the count of compilations."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq import eager_calls
from kseq.alignment import OrderSynchronous
from kseq.alignment.batch import make_batch
from kseq.alignment.forward_backward import log_probability
from kseq.backend import tensorflow_compilations as counting
from kseq.eager_calls import FIRST_CALLS
from tests.alignment.test_topology import AtLeastTwoFrames

FEATURES = 3


@pytest.fixture(autouse=True)
def _default_setting():
    kseq.config.set_jit_compile("auto")
    yield
    kseq.config.set_jit_compile(False)  # as all tests


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def new_compilations(function, *arguments):
    before = kseq.config.compilations()
    return function(*arguments), kseq.config.compilations() - before


def outputs_and_gradients(layer, sequences):
    with tf.GradientTape() as tape:
        outputs = layer(sequences, mask=np.arange(sequences.shape[1]) < [[5], [2]], training=True)
        loss = tf.reduce_sum(tf.sin(outputs))
    return [outputs, *tape.gradient(loss, layer.trainable_variables)]


@pytest.mark.long
def test_calls_of_a_layer_outside_graphs_are_compiled_once_they_come_again():
    layer, sequences = kseq.layers.LSTM(2, return_sequences=True), random(2, 5, FEATURES)
    plain = outputs_and_gradients(layer, sequences)
    for _ in range(FIRST_CALLS - 1):
        assert new_compilations(outputs_and_gradients, layer, sequences)[1] == 0
    compiled, count = new_compilations(outputs_and_gradients, layer, sequences)
    assert count == 2  # the forward and the backward pass
    for expected, got in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert new_compilations(outputs_and_gradients, layer, random(2, 7, FEATURES)[:, :6])[1] == 0  # padded, as 5 steps


def test_calls_for_derivatives_of_higher_order_are_right():
    layer, sequences = kseq.layers.SimpleRNN(2), tf.constant(random(2, 4, FEATURES))
    layer(sequences)

    def second():
        with tf.GradientTape() as outer:
            outer.watch(sequences)
            with tf.GradientTape() as inner:
                inner.watch(sequences)
                total = tf.reduce_sum(layer(sequences))
            first = inner.gradient(total, sequences)
        return outer.gradient(first, sequences)

    def forward():
        with tf.autodiff.ForwardAccumulator(sequences, tf.ones_like(sequences)) as accumulator:
            outputs = layer(sequences)
        return accumulator.jvp(outputs)

    kseq.config.set_jit_compile(False)
    plain = second(), forward()
    kseq.config.set_jit_compile(True)
    for expected, got in zip(plain, (second(), forward()), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_users_cells_and_unrolled_loops_are_not_compiled_outside_graphs():
    class Mine(kseq.cells.SimpleRNNCell):
        pass

    kseq.config.set_jit_compile(True)
    for layer in (kseq.layers.RNN(Mine(2)), kseq.layers.LSTM(2, unroll=True)):
        assert new_compilations(layer, random(2, 4, FEATURES))[1] == 0


LABELS = np.array([[1, 2, 2], [3, 1, 1], [1, 1, 1]]), np.array([3, 1, 3]), np.array([5, 2, 4])
TRANSITIONS = np.array([[0.5, -1.0, 0.0, 2.0]] * 4, "float32")
SEARCHES = {
    "loss": lambda x: kseq.ctc_loss(LABELS[0], x, *LABELS[1:]),
    "alignment": lambda x: kseq.ctc_forced_align(LABELS[0], x, *LABELS[1:]),
    "order": lambda x: kseq.alignment.viterbi_align(LABELS[0], x, *LABELS[1:], topology=OrderSynchronous()),
    "beam": lambda x: kseq.ctc_beam_search(x, LABELS[2], beam_width=3, top_paths=2),
    "crf": lambda x: kseq.decoding.crf_decode(x, LABELS[2], transitions=TRANSITIONS, top_paths=2),
}


@pytest.mark.long
@pytest.mark.parametrize("name", SEARCHES)
def test_alignments_and_searches_are_compiled_once_they_come_again(name):
    search, logits = SEARCHES[name], random(3, 5, 4)
    calls = [new_compilations(search, logits) for _ in range(FIRST_CALLS + 1)]
    assert [count for _, count in calls] == [0] * FIRST_CALLS + [1]
    for answer, _ in calls[1:]:
        for expected, got in zip(tf.nest.flatten(calls[0][0]), tf.nest.flatten(answer), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert new_compilations(search, random(3, 7, 4))[1] == 0  # padded to as many frames


@pytest.mark.long
def test_a_recorded_search_keeps_its_gradient():
    logits, found = tf.constant(random(3, 5, 4)), []
    for _ in range(FIRST_CALLS + 1):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            scores = SEARCHES["beam"](logits).scores
        found.append(tape.gradient(scores, logits))
    np.testing.assert_allclose(found[-1], found[0], atol=1e-6)


def test_of_many_sizes_only_some_are_compiled(monkeypatch):
    monkeypatch.setattr(eager_calls, "MOST_SIZES", 2)
    kseq.config.set_jit_compile(True)
    layer = kseq.layers.SimpleRNN(2, activation="sigmoid")
    counts = [new_compilations(layer, random(2, steps, FEATURES))[1] for steps in (5, 20, 40, 80, 20, 16)]
    assert counts == [1, 1, 0, 0, 0, 0]


@pytest.mark.long
def test_equal_layers_do_not_depend_on_each_other():
    kseq.config.set_jit_compile(True)
    first = kseq.layers.SimpleRNN(2, activation="softsign")
    first(random(2, 5, FEATURES))
    first.cell.activation = keras.activations.exponential
    layer, sequences = kseq.layers.SimpleRNN(2, activation="softsign"), random(7, 5, FEATURES)
    compiled = layer(sequences)  # of a new size: the function is traced again
    kseq.config.set_jit_compile(False)
    np.testing.assert_allclose(compiled, layer(sequences), rtol=1e-5, atol=1e-6)
    cell = weakref.ref(first.cell)
    del first
    gc.collect()
    assert cell() is None


@pytest.mark.long
@pytest.mark.parametrize("setting", ["auto", True])
def test_mapped_calls_have_their_gradients(setting):
    layer, sequences = kseq.layers.SimpleRNN(2), tf.constant(random(2, 4, FEATURES))
    layer(sequences)

    def gradients(called):
        with tf.GradientTape() as tape:
            outputs = called(sequences)
        return tape.gradient(outputs, layer.trainable_variables)

    expected = gradients(layer)
    kseq.config.set_jit_compile(setting)
    for one, other in zip(
        expected, gradients(lambda x: tf.vectorized_map(lambda row: layer(row[None])[0], x)), strict=True
    ):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_a_users_topology_is_compiled_in_graphs_alone():
    topology, labels, lengths = AtLeastTwoFrames(), np.array([[1, 2], [3, 1]]), (np.array([2, 1]), np.array([5, 3]))

    def of(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            losses = log_probability(topology, make_batch(labels, logits, *lengths, topology))
        return losses, tape.gradient(losses, logits)

    kseq.config.set_jit_compile(True)
    logits = tf.constant(random(2, 5, 4))
    plain, count = new_compilations(of, logits)
    compiled, more = new_compilations(tf.function(of, autograph=False), logits)
    assert (count, more) == (0, 2)
    for expected, got in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_shapes_that_a_graph_meets_are_counted_and_many_are_reported(monkeypatch, capfd):
    monkeypatch.setattr(counting, "MANY", kseq.config.compilations() + 2)
    layer = kseq.layers.SimpleRNN(2, activation="relu", jit_compile=True)
    layer.build((None, None, FEATURES))
    signature = [tf.TensorSpec([None, None, FEATURES])]
    graph = tf.function(lambda x: layer(x), input_signature=signature, autograph=False)
    counts = [
        new_compilations(graph, random(rows, steps, FEATURES))[1] for rows, steps in ((3, 5), (4, 9), (3, 17), (9, 2))
    ]
    assert counts == [1, 0, 1, 1]  # rows are padded to 4, 8 or 12 and steps to 16 or 32
    assert capfd.readouterr().err.count(f"for {counting.MANY} shapes") == 1
