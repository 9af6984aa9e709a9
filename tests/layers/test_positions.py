"""Layers that add encodings of positions."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from tests.support import traced

VALUES = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
LAYERS = [kseq.layers.SinusoidalPositionalEncoding, lambda: kseq.layers.LearnedPositionalEmbedding(9)]


def sinusoid(position, dim, most):
    angles = [position / most ** (2 * (i // 2) / dim) for i in range(dim)]
    return [np.cos(a) if i % 2 else np.sin(a) for i, a in enumerate(angles)]


@pytest.mark.parametrize("dim", [6, 5])
def test_sinusoids_equal_the_papers(dim):
    layer = kseq.layers.SinusoidalPositionalEncoding(100.0)
    expected = VALUES[..., :dim] + [sinusoid(position, dim, 100) for position in range(3, 8)]
    np.testing.assert_allclose(layer(VALUES[..., :dim], offset=3), expected, atol=1e-5)


def test_learned_vectors_are_the_rows_of_the_table():
    layer = kseq.layers.LearnedPositionalEmbedding(9)
    layer.build(VALUES.shape)
    table = layer.get_weights()[0]
    np.testing.assert_allclose(layer(VALUES, offset=4), VALUES + table[4:], atol=1e-6)
    offset = np.array([1, 4], "int32")
    np.testing.assert_allclose(layer(VALUES, offset=offset), VALUES + np.stack([table[1:6], table[4:]]), atol=1e-6)


@pytest.mark.every_backend
@pytest.mark.parametrize("make", LAYERS)
def test_steps_equal_the_whole(make):
    layer = make()
    whole = np.asarray(layer(VALUES))
    step = traced(lambda values, offset: layer(values, offset=offset))
    for position in range(5):
        for offset in (np.array(position, "int32"), np.full(2, position, "int32")):
            np.testing.assert_allclose(step(VALUES[:, position], offset), whole[:, position], atol=1e-6)
    np.testing.assert_allclose(layer(VALUES[:, 3], offset=3), whole[:, 3], atol=1e-6)


def test_positions_outside_the_table_are_refused_and_in_a_graph_nan():
    layer = kseq.layers.LearnedPositionalEmbedding(4)
    with pytest.raises(ValueError, match=r"max_length=4 positions, but the steps go from position 0 to 4\."):
        layer(VALUES)
    with pytest.raises(ValueError, match="from position 3 to 4"):
        layer(VALUES[:, :1], offset=np.array([3, 4], "int32"))
    got = traced(lambda offset: layer(VALUES[:, :3], offset=offset))(np.array([0, 2], "int32"))
    assert (np.isnan(got).any(-1) == [[False, False, False], [False, False, True]]).all()
    assert np.isnan(traced(lambda offset: layer(VALUES[:, 0], offset=offset))(np.array(-1, "int32"))).all()


@pytest.mark.parametrize("make", LAYERS)
def test_works_in_a_functional_model_and_passes_the_mask_on(make, tmp_path):
    ids = keras.Input((None,), dtype="int32")
    values = make()(keras.layers.Embedding(9, 6, mask_zero=True)(ids))
    model = keras.Model(ids, kseq.layers.SequencePooling("mean")(values))
    rows = np.array([[3, 4, 0, 0], [1, 2, 3, 4]], "int32")
    expected = model(rows)
    np.testing.assert_allclose(model(rows[:1, :2]), expected[:1], atol=1e-6)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "model.keras")(rows), expected, atol=1e-6)


@pytest.mark.parametrize("make", LAYERS)
def test_half_precision(make):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = make()
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(layer(VALUES, offset=np.array([1, 2])).dtype) == "bfloat16"


@pytest.mark.parametrize("make", LAYERS)
def test_wrong_arguments_are_refused(make):
    layer = make()
    for offset, message in ((-1, "got offset=-1"), (1.5, "must be a whole number"), (np.zeros(2), "float32 of shape")):
        with pytest.raises(ValueError, match=message):
            layer(VALUES, offset=offset)
    with pytest.raises(ValueError, match=r"\(batch, time, dim\).*but got \(2, 5, 6, 1\)"):
        layer(ops.expand_dims(VALUES, -1))
