"""The LSTM with layer normalisation: its twin, half precision, and dropout."""

import numpy as np
import pytest

import kseq
from tests.cells.twins import UNITS, X, assert_equals_twin, random_layer
from tests.reference.gated_cells import layer_norm_lstm_step


def test_equals_its_twin():
    assert_equals_twin(kseq.cells.LayerNormLSTMCell(UNITS), layer_norm_lstm_step)


def test_the_scale_of_the_inputs_does_not_matter():
    layer = random_layer(kseq.cells.LayerNormLSTMCell(UNITS, epsilon=1e-9))
    np.testing.assert_allclose(layer(1000.0 * X)[0], layer(X)[0], atol=1e-5)


def test_statistics_are_not_taken_in_half_precision():
    """The products here are near 300, so their squares exceed float16's largest number, 65504."""
    cells = (kseq.cells.LayerNormLSTMCell(UNITS, dtype=dtype) for dtype in ("float32", "mixed_float16"))
    exact, half = (random_layer(cell, dtype=cell.dtype_policy)(300.0 * X)[0] for cell in cells)
    np.testing.assert_allclose(np.asarray(half, "float32"), exact, atol=5e-3)


def test_without_bias():
    layer = random_layer(kseq.cells.LayerNormLSTMCell(UNITS, use_bias=False))
    names = [weight.name for weight in layer.weights]
    assert names == ["kernel", "recurrent_kernel", "kernel_gain", "recurrent_gain", "state_gain", "state_offset"]
    with_bias = kseq.layers.RNN(kseq.cells.LayerNormLSTMCell(UNITS), return_sequences=True)
    with_bias.build(X.shape)
    kernel, recurrent_kernel, *rest = layer.get_weights()
    with_bias.set_weights([kernel, recurrent_kernel, np.zeros(4 * UNITS), *rest])
    np.testing.assert_allclose(layer(X)[0], with_bias(X), atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("options", [{"implementation": 1, "dropout": 0.5}, {"recurrent_dropout": 0.5}])
def test_a_dropout_mask_for_each_gate_leaves_sums_normalised(options):
    """With gains of zero only the biases remain, whatever is dropped."""
    layer = random_layer(kseq.cells.LayerNormLSTMCell(UNITS, seed=1, **options))
    assert not np.allclose(layer(X, training=True)[0], layer(X)[0])
    for gain in (layer.cell.kernel_gain, layer.cell.recurrent_gain):
        gain.assign(np.zeros(4 * UNITS))
    np.testing.assert_allclose(layer(X, training=True)[0], layer(X)[0], atol=1e-6)
