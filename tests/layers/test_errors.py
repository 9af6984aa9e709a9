"""Errors of recurrent layers: each says what came, what was expected and the way out."""

import keras
import numpy as np
import pytest

import kseq
from kseq.cells import GRUCell, LSTMCell
from kseq.layers import GRU, LSTM, RNN, Bidirectional, DeepRNN, SimpleRNN, StackedRNN
from tests.support import BACKEND

X = np.ones((4, 5, 3), "float32")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gru", "but got 'gru'. Give a cell, such as kseq.cells.LSTMCell"),
        (None, "but got None"),
        (GRUCell, "the class GRUCell. Make a cell of it: GRUCell"),
        (GRU(3), "the layer GRU, which takes all steps of a sequence. Give its cell: kseq.cells.GRUCell"),
        (Bidirectional(GRU(3)), "the layer Bidirectional"),
        (keras.layers.Dense(3), "a Dense without the attribute state_size"),
    ],
)
def test_what_is_not_a_cell_is_refused(given, message):
    for make in (
        RNN,
        lambda cell: RNN([GRUCell(3), cell]),
        lambda cell: kseq.cells.ZoneoutCell(cell, 0.1),
        lambda cell: kseq.models.Encoder(10, 4, cell),
        lambda cell: kseq.models.Decoder(10, 4, cell),
        lambda cell: kseq.models.CharacterEncoder(10, 4, cell),
    ):
        with pytest.raises(ValueError, match=message):
            make(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("lstm", "layer must be a recurrent layer in one direction, but is 'lstm'"),
        (LSTM, "the class LSTM. Give LSTM"),
        (LSTMCell(3), r"the cell LSTMCell. Give kseq.layers.RNN\(LSTMCell"),
        (Bidirectional(LSTM(3)), "Give the layer in it, or kseq.layers.StackedRNN"),
    ],
)
def test_what_is_not_a_recurrent_layer_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Bidirectional(given)
    with pytest.raises(ValueError, match="backward_layer must be a recurrent layer"):
        Bidirectional(LSTM(3), backward_layer=given)


@pytest.mark.parametrize("make", [LSTM, GRU, SimpleRNN, LSTMCell, kseq.cells.MinGRUCell, kseq.cells.ConvLSTMCell])
def test_sizes_and_shares_are_checked_and_taken_from_numpy(make):
    for units in (0, 2.5, "3", True, None):
        with pytest.raises(ValueError, match="needs a positive int"):
            make(units)
    for dropout in (-0.1, 1.5, float("nan"), "0.1"):
        with pytest.raises(ValueError, match="the share of units to drop"):
            make(3, dropout=dropout)
    made = make(np.int64(3), dropout=np.float32(0.5), seed=np.int64(7))
    size = "filters" if make is kseq.cells.ConvLSTMCell else "units"
    kept = [made.get_config()[name] for name in (size, "dropout", "seed")]
    assert [type(value) for value in kept] == [int, float, int]


@pytest.mark.skipif(BACKEND == "jax", reason="JAX has no ragged tensors")
@pytest.mark.parametrize("make", [LSTM, lambda n: Bidirectional(LSTM(n)), lambda n: StackedRNN([LSTM(n)])])
def test_ragged_tensors_are_refused(make):
    import tensorflow as tf

    ragged = tf.ragged.constant([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]]], ragged_rank=1)
    with pytest.raises(ValueError, match=r"x.to_tensor\(\), mask=kseq.masking.mask_from_lengths"):
        make(3)(ragged)


class TestRestBatches:
    """A stateful layer that gets fewer rows than it carries states of."""

    @pytest.mark.parametrize("kind", [lambda: LSTM(2, stateful=True), lambda: StackedRNN([GRU(2)], stateful=True)])
    def test_eagerly(self, kind):
        layer = kind()
        layer(X)
        with pytest.raises(ValueError, match=r"states of 4 rows, but the sequences have shape \(3, 5, 3\)"):
            layer(X[:3])

    @pytest.mark.skipif(BACKEND == "jax", reason="JAX knows all shapes")
    @pytest.mark.parametrize("jit", [False, True], ids=["graph", "XLA"])
    def test_in_a_graph_that_does_not_know_the_number_of_rows(self, jit):
        import tensorflow as tf

        layer = LSTM(2, stateful=True)
        layer.build((4, 5, 3))
        run = tf.function(layer, input_signature=[tf.TensorSpec((None, 5, 3))], jit_compile=jit)
        np.testing.assert_array_equal(run(X).shape, (4, 2))
        with pytest.raises(tf.errors.InvalidArgumentError, match="needs_batches_of_4_rows_use_drop_remainder"):
            run(X[:1])

    @pytest.mark.long
    @pytest.mark.skipif(BACKEND == "jax", reason="JAX knows all shapes")
    def test_in_fit_where_the_loss_could_fail_first(self):
        import tensorflow as tf

        model = keras.Sequential([keras.Input(batch_shape=(4, 5, 3)), LSTM(2, stateful=True)])
        model.compile("sgd", "mse", jit_compile=False)
        message = r"\[3,5,3\] is not compatible with expected shape \[4,5,3\].\s*.*needs_batches_of_4_rows"
        for _ in range(3):  # the order of operations differs from run to run
            with pytest.raises(tf.errors.InvalidArgumentError, match=message):
                model.fit(np.ones((7, 5, 3)), np.ones((7, 2)), batch_size=4, verbose=0)


def test_arguments_that_would_be_ignored_are_refused():
    with pytest.raises(ValueError, match=r"weights given to .* shapes \[\(3, 12\)\], but its layers have"):
        Bidirectional(LSTM(3), weights=[np.zeros((3, 12))]).build((4, 5, 3))
    for options in ({"dropout": 1}, {"recurrent_dropout": 1.0}):
        with pytest.raises(ValueError, match=r"drops nothing at a rate of 1\. Use a rate below 1 or reset_after=True"):
            GRU(3, reset_after=False, **options)
    with pytest.raises(ValueError, match="implementation=3"):
        LSTM(3, implementation=3)
    with pytest.raises(ValueError, match=r"output_units=2\.5"):
        DeepRNN([LSTM(3)], 2.5)
