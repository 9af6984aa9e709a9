"""The loss of predicted distributions: masks, missing and impossible values, and training."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.masking import set_implicit_mask
from tests.support import gradient, traced

NORMAL, COUNTS = kseq.heads.Normal(), kseq.heads.NegativeBinomial()
MASK = np.array([[True, True, True], [True, False, False]])


def outputs(head=NORMAL):
    return np.random.default_rng(0).normal(size=(2, 3, head.size)).astype("float32")


def loss_of(values, head=NORMAL, weights=None, mask=MASK, **options):
    def loss(x):
        if mask is not None:
            x = ops.convert_to_tensor(x) + 0.0  # a tensor of its own, which may get a mask
            set_implicit_mask(x, ops.convert_to_tensor(mask))
        return kseq.losses.NegativeLogLikelihood(head, **options)(values, x, weights)

    return loss


def test_is_the_mean_over_real_steps():
    x, values = outputs(), np.array([[1.0, 2.0, 3.0], [0.0, np.nan, np.inf]])
    each = -np.asarray(NORMAL.log_probability(NORMAL.parameters(x), np.where(MASK, values, 0)))
    np.testing.assert_allclose(loss_of(values)(x), each[MASK].mean(), rtol=1e-5)
    found = gradient(loss_of(values), x)[0]
    assert (found[1, 1:] == 0).all()
    assert (found[MASK] != 0).all()
    weighted = (each * MASK * [[2.0], [1.0]]).sum() / 7.0
    np.testing.assert_allclose(loss_of(values, weights=np.array([2.0, 1.0]))(x), weighted, rtol=1e-5)
    np.testing.assert_allclose(loss_of(values, reduction="sum")(x), each[MASK].sum(), rtol=1e-5)
    stacked = NORMAL.stack(NORMAL.parameters(x))
    np.testing.assert_allclose(loss_of(values, stacked=True)(stacked), each[MASK].mean(), rtol=1e-5)


def test_missing_values_are_masked_if_asked():
    x, values = outputs(), np.array([[1.0, np.nan, 3.0], [0.0, 0.0, 0.0]])
    kept = MASK & ~np.isnan(values)
    each = -np.asarray(NORMAL.log_probability(NORMAL.parameters(x), np.nan_to_num(values)))
    np.testing.assert_allclose(loss_of(values, missing="mask")(x), each[kept].mean(), rtol=1e-5)
    unmasked = each[~np.isnan(values)].mean()
    np.testing.assert_allclose(loss_of(values, missing="mask", mask=None)(x), unmasked, rtol=1e-5)
    with pytest.raises(ValueError, match=r"y_true\[0, 1\] = nan, but a value of Normal\(\) is a finite number"):
        loss_of(values)(x)


@pytest.mark.long
@pytest.mark.parametrize("wrong", [-1.0, 0.5, np.nan, np.inf])
def test_an_impossible_value_is_refused_or_told_by_nan(wrong):
    x, values = outputs(COUNTS), np.array([[1.0, wrong, 3.0], [0.0, 0.0, 0.0]], "float32")
    with pytest.raises(ValueError, match=r"y_true\[0, 1\] = .*, but a value of NegativeBinomial\(\) is a whole number"):
        loss_of(values, COUNTS)(x)
    found = traced(lambda v, x: loss_of(v, COUNTS)(x))
    assert np.isnan(found(values, x))
    of_wrong = gradient(lambda x: traced(lambda v: loss_of(v, COUNTS)(x))(values), x)[0]
    assert (of_wrong[0, 1] == 0).all()
    values[0, 1] = 0.0
    right = gradient(lambda x: traced(lambda v: loss_of(v, COUNTS)(x))(values), x)[0]
    np.testing.assert_allclose(of_wrong[0, ::2], right[0, ::2], rtol=1e-5)


def test_values_of_another_shape_are_refused():
    with pytest.raises(
        ValueError, match=r"y_true has shape \(2, 3, 2\), .* Bernoulli\(labels=4\) needs .* \(2, 3, 4\)"
    ):
        loss_of(np.zeros((2, 3, 2)), kseq.heads.Bernoulli(4))(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="missing='drop'"):
        kseq.losses.NegativeLogLikelihood(NORMAL, missing="drop")
    with pytest.raises(ValueError, match="head='normal', but it must be a head"):
        kseq.losses.NegativeLogLikelihood("normal")


@pytest.mark.long
@pytest.mark.every_backend
def test_trains_a_keras_model_to_the_datas_mean_and_deviation():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4, 1)), keras.layers.Dense(NORMAL.size)])
    model.compile(keras.optimizers.Adam(0.1), kseq.losses.NegativeLogLikelihood(NORMAL))
    values = np.random.default_rng(0).normal(2.0, 0.5, size=(64, 4)).astype("float32")
    inputs = np.zeros((64, 4, 1), "float32")
    model.fit(np.tile(inputs, (150, 1, 1)), np.tile(values, (150, 1)), batch_size=64, shuffle=False, verbose=0)
    parameters = NORMAL.parameters(model.predict(inputs[:1], verbose=0))
    np.testing.assert_allclose(parameters.mean, values.mean(), rtol=0.01)
    np.testing.assert_allclose(parameters.scale, values.std(), rtol=0.03)
