"""The GRU with layer normalisation: its twin and its errors."""

import numpy as np
import pytest

import kseq
from tests.cells.twins import UNITS, X, assert_equals_twin, random_layer
from tests.reference.gated_cells import layer_norm_gru_step


def test_equals_its_twin():
    assert_equals_twin(kseq.cells.LayerNormGRUCell(UNITS), layer_norm_gru_step)


def test_the_scale_of_the_inputs_does_not_matter():
    layer = random_layer(kseq.cells.LayerNormGRUCell(UNITS, epsilon=1e-9))
    np.testing.assert_allclose(layer(1000.0 * X)[0], layer(X)[0], atol=1e-5)


def test_without_bias():
    layer = random_layer(kseq.cells.LayerNormGRUCell(UNITS, use_bias=False))
    with_bias = kseq.layers.RNN(kseq.cells.LayerNormGRUCell(UNITS), return_sequences=True)
    with_bias.build(X.shape)
    kernel, recurrent_kernel, *gains = layer.get_weights()
    with_bias.set_weights([kernel, recurrent_kernel, np.zeros((2, 3 * UNITS)), *gains])
    np.testing.assert_allclose(layer(X)[0], with_bias(X), atol=1e-6)


def test_a_reset_gate_before_the_product_is_refused():
    with pytest.raises(ValueError, match="LayerNormGRUCell got reset_after=False"):
        kseq.cells.LayerNormGRUCell(UNITS, reset_after=False)


@pytest.mark.parametrize("options", [{"implementation": 1, "dropout": 0.5}, {"recurrent_dropout": 0.5}])
def test_a_dropout_mask_for_each_gate(options):
    layer = random_layer(kseq.cells.LayerNormGRUCell(UNITS, seed=1, **options))
    assert not np.allclose(layer(X, training=True)[0], layer(X)[0])
