"""Tests of the Conformer layer: its equations, padding, batch normalisation, and recognizers with it."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.layers import ConformerLayer
from kseq.layers.conformer_convolution import convolve_depthwise
from tests.reference import conformer as twin
from tests.support import BACKEND, assert_all_close, compiled, outputs_and_gradients

LENGTHS = np.array([6, 3, 1])
MASK = np.arange(6) < LENGTHS[:, None]
PARTS = ("feed_forward_norm", "feed_forward", "attention_norm", "convolution_norm", "convolution",
         "second_feed_forward_norm", "second_feed_forward", "output_norm")  # fmt: skip


def made(**options):
    """Return a layer for values of size 4 with drawn weights."""
    layer = ConformerLayer(2, 5, **{"kernel_size": 4, "momentum": 0.75, **options})
    layer.build((None, None, 4))
    random = np.random.default_rng(1)
    drawn = [0.5 * random.normal(size=weight.shape) for weight in layer.get_weights()]
    layer.set_weights(drawn)
    variance = layer.convolution.normalization.moving_variance
    variance.assign(1.0 + ops.abs(variance))
    return layer


@pytest.fixture
def values():
    drawn = np.random.default_rng(0).normal(size=(3, 6, 4))
    return np.where(MASK[..., None], drawn, np.nan).astype("float32")


def rows_of(values):
    return [row[:length] for row, length in zip(np.asarray(values), LENGTHS, strict=True)]


@pytest.mark.every_backend
@pytest.mark.long_on_jax
@pytest.mark.parametrize("training", [False, True])
def test_equals_its_equations_and_updates_the_averages(values, training):
    layer = made()
    weights = {name: [np.asarray(each) for each in getattr(layer, name).trainable_weights] for name in PARTS}
    normalization = layer.convolution.normalization
    before = [np.array(normalization.moving_mean), np.array(normalization.moving_variance)]

    def attend(row):
        one = row[None].astype("float32")
        return np.asarray(layer.attention(one, one)[0][0])

    expected, *of_batch = twin.conformer_layer(rows_of(values), weights, attend, None if training else before)
    got = rows_of(layer(values, mask=MASK, training=training))
    assert_all_close(got, expected, rtol=1e-4, atol=1e-4)
    after = [normalization.moving_mean, normalization.moving_variance]
    new = [0.75 * old + 0.25 * now if training else old for old, now in zip(before, of_batch, strict=True)]
    assert_all_close(after, new, rtol=1e-4, atol=1e-5)


class Masked(keras.layers.Layer):
    """A layer with its mask, and zeros in its padding, of 6 steps."""

    def __init__(self, inner, mask, training):
        super().__init__()
        self.inner, self.real, self.in_training = inner, mask, training

    def call(self, inputs):
        outputs = self.inner(inputs, mask=self.real, training=self.in_training)
        return ops.where(self.real[..., None], outputs, 0.0)[:, :6]


@pytest.mark.long
@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_neither_outputs_nor_gradients(values, training):
    shown = []
    for padded in (np.nan_to_num(values), np.pad(values, [(0, 0), (0, 2), (0, 0)], constant_values=np.nan)):
        mask = np.pad(MASK, [(0, 0), (0, padded.shape[1] - 6)])
        outputs, (of_inputs, *of_weights) = outputs_and_gradients(
            Masked(made(positions="rotary"), mask, training), padded
        )
        shown.append([*outputs, of_inputs[:, :6], *of_weights])
    assert_all_close(shown[1], shown[0], rtol=1e-4, atol=1e-5)


@pytest.mark.every_backend
@pytest.mark.parametrize("width", [1, 4, 5])
def test_the_convolution_of_single_dimensions_is_one_under_xla_and_elsewhere(width):
    random = np.random.default_rng(2)
    values, kernel = random.normal(size=(2, 6, 3)), random.normal(size=(width, 3)).astype("float32")
    values = values.astype("float32")
    expected = [twin.depthwise(row, kernel) for row in values]

    def convolve(values):
        return convolve_depthwise(values, ops.convert_to_tensor(kernel))

    assert_all_close([convolve(values), compiled(convolve)(values)], [expected, expected], rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_a_batch_of_no_rows(values):
    layer = made()
    assert layer(values[:0], mask=MASK[:0]).shape == (0, 6, 4)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        run = tf.function(lambda x: layer(x), input_signature=[tf.TensorSpec((None, 6, 4))])
        assert run(values[:0]).shape == (0, 6, 4)


@pytest.mark.long
def test_a_recognizer_trains_saves_and_loads_with_it(tmp_path):
    layers = [keras.layers.Dense(4), ConformerLayer(2, 5, kernel_size=3, dropout=0.1)]
    model = kseq.models.CTCRecognizer(3, 4, layers, front_end=kseq.frontends.FrameStacking(2))
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    random = np.random.default_rng(0)
    inputs = {"features": [random.normal(size=(n, 3)) for n in (8, 5)], "labels": [[1, 2], [3]]}
    before = model.test_on_batch(inputs)[0]
    for _ in range(4):
        model.train_on_batch(inputs)
    assert model.test_on_batch(inputs)[0] < before
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(inputs, verbose=0), model.predict(inputs, verbose=0))


def test_half_precision_and_errors(values):
    half = ConformerLayer(2, 5, dtype="mixed_bfloat16")(values, mask=MASK)
    assert keras.backend.standardize_dtype(half.dtype) == "bfloat16"
    assert np.isfinite(np.asarray(half, "float32")[MASK]).all()
    with pytest.raises(ValueError, match="kernel_size=0, but ConformerConvolution needs a positive int"):
        ConformerLayer(2, 5, kernel_size=0)
    with pytest.raises(ValueError, match=r"momentum=1\.0"):
        ConformerLayer(2, 5, momentum=1.0)
    with pytest.raises(ValueError, match="ConformerLayer divides the values among num_heads=3 heads"):
        ConformerLayer(3, 5)(values)
