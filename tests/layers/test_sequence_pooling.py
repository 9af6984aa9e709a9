"""Poolings of sequences against their NumPy twin, their padding, and their options."""

import keras
import numpy as np
import pytest

import kseq
from kseq.layers.sequence_pooling import POOLINGS
from kseq.masking import mask_from_lengths
from tests.reference.pooling import pooled_row
from tests.support import assert_all_close, compiled, outputs_and_gradients

LENGTHS = np.array([5, 1, 0, 3])
CASES = [*((name, {}) for name in POOLINGS), ("last", {"bidirectional": True}), ("attention", {"units": 3})]
cases = pytest.mark.parametrize(("pooling", "options"), CASES, ids=str)


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(4, 5, 6)).astype("float32")


def make(pooling, options, **more):
    layer = kseq.layers.SequencePooling(pooling, **options, **more)
    layer.build((None, None, 6))
    for weight in layer.weights:
        weight.assign(np.random.default_rng(1).normal(size=weight.shape))
    return layer


@pytest.mark.every_backend
@cases
def test_equals_the_twin_whatever_the_padding_holds(pooling, options, values):
    layer, mask = make(pooling, options), mask_from_lengths(LENGTHS, 5)
    bidirectional = options.get("bidirectional", False)
    expected = [
        pooled_row(row[:length], pooling, layer.get_weights(), bidirectional=bidirectional)
        for row, length in zip(values, LENGTHS, strict=True)
    ]
    clean = outputs_and_gradients(layer, values, mask=mask)
    np.testing.assert_allclose(clean[0][0], expected, atol=1e-6)
    assert not clean[1][0][~np.asarray(mask)].any()
    values[~np.asarray(mask)] = np.nan
    padded = outputs_and_gradients(layer, values, mask=mask)
    for got, of_clean in zip(padded, clean, strict=True):
        assert_all_close(got, of_clean, atol=1e-6)
    np.testing.assert_allclose(compiled(lambda x: layer(x, mask=mask))(values), expected, atol=1e-6)


@cases
def test_bfloat16_sums_in_float32(pooling, options, values):
    values = np.repeat(abs(values), 60, axis=1)  # a sum of 300 bfloat16 has few right digits
    layer, precise = make(pooling, options, dtype="mixed_bfloat16"), make(pooling, options)
    pooled = layer(values)
    assert keras.backend.standardize_dtype(pooled.dtype) == "bfloat16"
    np.testing.assert_allclose(np.asarray(keras.ops.cast(pooled, "float32")), precise(values), rtol=0.02, atol=0.02)


def test_no_steps_and_no_mask(values):
    for pooling, options in CASES:
        layer = make(pooling, options)
        assert not np.asarray(layer(values[:, :0])).any()
        np.testing.assert_allclose(layer(values), layer(values, mask=np.ones((4, 5), bool)), atol=1e-6)


def test_takes_keras_masks_with_gaps_in_a_functional_model():
    ids = np.array([[3, 0, 5, 0], [0, 2, 0, 0]])
    inputs = keras.Input((None,), dtype="int32")
    embedding = keras.layers.Embedding(9, 6, mask_zero=True)
    embedded = embedding(inputs)
    model = keras.Model(inputs, [make(pooling, options)(embedded) for pooling, options in CASES])
    vectors = np.asarray(embedding(ids))
    for (pooling, options), layer, pooled in zip(CASES, model.layers[-len(CASES) :], model(ids), strict=True):
        bidirectional = options.get("bidirectional", False)
        for row in range(2):
            real = vectors[row, ids[row] != 0]
            expected = pooled_row(real, pooling, layer.get_weights(), bidirectional=bidirectional)
            np.testing.assert_allclose(pooled[row], expected, atol=1e-6)
    assert model.output_shape == [(None, 6)] * len(CASES)


def test_last_of_a_bidirectional_layer_is_what_it_returns_without_sequences(values):
    inputs = keras.Input((None, 6))
    layer = kseq.layers.Bidirectional(kseq.layers.GRU(4, return_sequences=True))
    model = keras.Model(inputs, kseq.layers.SequencePooling("last", bidirectional=True)(layer(inputs)))
    plain = kseq.layers.Bidirectional(kseq.layers.GRU(4))
    plain.build((None, None, 6))
    plain.set_weights(layer.get_weights())
    np.testing.assert_allclose(model(values), plain(values), atol=1e-6)


def test_options_that_do_not_apply_are_refused():
    for options, message in (
        ({"pooling": "median"}, r"pooling='median', but it must be one of \('last', 'sum'"),
        ({"pooling": "mean", "bidirectional": True}, "bidirectional=True applies to pooling='last'"),
        ({"pooling": "max", "units": 3}, "units=3 applies to pooling='attention', but pooling='max'"),
        ({"pooling": "attention", "units": 0}, "units=0, but SequencePooling needs a positive int"),
    ):
        with pytest.raises(ValueError, match=message):
            kseq.layers.SequencePooling(**options)
    with pytest.raises(ValueError, match=r"an even dim, but they have the shape \(None, None, 5\)"):
        kseq.layers.SequencePooling("last", bidirectional=True).build((None, None, 5))
    with pytest.raises(ValueError, match=r"expected mask of shape \(batch, time\) = \(2, 3\)"):
        kseq.layers.SequencePooling("mean")(np.ones((2, 3, 4)), mask=np.ones((2, 4), bool))
