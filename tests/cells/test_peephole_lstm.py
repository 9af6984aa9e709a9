"""The LSTM with peepholes: its twin and TensorFlow's `BlockLSTMV2`."""

import numpy as np

import kseq
from tests.cells.twins import UNITS, X, assert_equals_twin, random_layer
from tests.reference.gated_cells import peephole_lstm_step


def test_equals_its_twin():
    assert_equals_twin(kseq.cells.PeepholeLSTMCell(UNITS), peephole_lstm_step)


def test_without_peepholes_it_is_an_lstm():
    cell = kseq.cells.PeepholeLSTMCell(UNITS, peephole_initializer="zeros")
    lstm = kseq.layers.LSTM(UNITS, return_sequences=True)
    layer = kseq.layers.RNN(cell, return_sequences=True)
    for each in (layer, lstm):
        each.build(X.shape)
    layer.set_weights([*lstm.get_weights(), *layer.get_weights()[3:]])
    np.testing.assert_allclose(layer(X), lstm(X), atol=1e-6)


def test_equals_tensorflows_kernel():
    """`BlockLSTMV2` has peepholes too. Its gates are in the order i, f, g, o."""
    import tensorflow as tf

    layer = random_layer(kseq.cells.PeepholeLSTMCell(UNITS))
    kernel, recurrent_kernel, bias, pi, pf, po = layer.get_weights()
    zeros = np.zeros((len(X), UNITS), "float32")

    expected = tf.raw_ops.BlockLSTMV2(
        seq_len_max=tf.constant(X.shape[1], tf.int64),
        x=X.transpose(1, 0, 2),
        cs_prev=zeros,
        h_prev=zeros,
        w=np.concatenate([kernel, recurrent_kernel]),
        wci=pi,
        wcf=pf,
        wco=po,
        b=bias,
        cell_clip=0.0,
        use_peephole=True,
    )
    outputs, _, memory = layer(X)
    np.testing.assert_allclose(outputs, expected.h.numpy().transpose(1, 0, 2), atol=1e-6)
    np.testing.assert_allclose(memory, expected.cs[-1], atol=1e-6)


def test_other_activations_are_differentiated_automatically():
    assert kseq.cells.PeepholeLSTMCell(UNITS).gates_gradient is not None
    assert kseq.cells.PeepholeLSTMCell(UNITS, activation="relu").gates_gradient is None
    assert kseq.cells.PeepholeLSTMCell(UNITS, recurrent_activation="hard_sigmoid").gates_gradient is None
