"""The sequence cross-entropy, averaged over real tokens."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from tests.support import compiled, gradient

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 5, size=(3, 4))
LOGITS = RANDOM.normal(size=(3, 4, 5)).astype("float32")
LENGTHS = np.array([4, 2, 0])
MASK = np.arange(4)[None] < LENGTHS[:, None]


def masked(logits, mask):
    """Return logits with an implicit mask, like a Keras layer's output."""
    return keras.layers.Lambda(lambda x: x + 0.0, mask=lambda x, m: ops.convert_to_tensor(mask))(logits)


def by_hand(labels, logits, smoothing=0.0):
    log_probabilities = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    target = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    return -np.sum(target * log_probabilities, axis=-1)


@pytest.mark.every_backend
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_is_the_mean_over_real_tokens(smoothing):
    loss = kseq.losses.SequenceCrossEntropy(label_smoothing=smoothing)
    expected = by_hand(LABELS, LOGITS, smoothing)
    np.testing.assert_allclose(loss(LABELS, LOGITS), expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(loss(LABELS, masked(LOGITS, MASK)), expected[MASK].sum() / 6, rtol=1e-6)
    np.testing.assert_allclose(compiled(loss)(LABELS, LOGITS), expected.mean(), rtol=1e-6)


@pytest.mark.parametrize("weights", [np.array([1.0, 3.0, 2.0]), RANDOM.uniform(size=(3, 4))], ids=["row", "token"])
def test_sample_weights_join_the_mask(weights):
    each = MASK * (weights if weights.ndim == 2 else weights[:, None])
    expected = (by_hand(LABELS, LOGITS) * each).sum() / each.sum()
    loss = kseq.losses.SequenceCrossEntropy()
    for shape in (weights.shape, (*weights.shape, 1)):
        weighted = loss(LABELS, masked(LOGITS, MASK), weights.reshape(shape))
        np.testing.assert_allclose(weighted, expected, rtol=1e-6)


@pytest.mark.every_backend
@pytest.mark.parametrize("shape", [(2,), (3, 2), (3, 4, 2), (4, 3), (1, 4)])
def test_sample_weights_of_other_shapes_are_refused(shape):
    for loss in (kseq.losses.SequenceCrossEntropy(), compiled(kseq.losses.SequenceCrossEntropy())):
        with pytest.raises(ValueError, match=r"sample_weight has shape .* give a weight for each row, \(3,\), or"):
            loss(LABELS, LOGITS, np.ones(shape, "float32"))
    with pytest.raises(ValueError, match=r"sample_weight has shape .* rows, which need one weight each"):
        kseq.losses.CTC()(LABELS[:, :2], LOGITS, np.ones((3, 4), "float32"))


@pytest.mark.every_backend
@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_labels_may_have_a_last_axis_of_size_1_or_be_bools(wrap):
    loss = kseq.losses.SequenceCrossEntropy()
    expected = by_hand(LABELS, LOGITS).mean()
    np.testing.assert_allclose(wrap(loss)(LABELS[:, :, None], LOGITS), expected, rtol=1e-6)
    np.testing.assert_allclose(wrap(loss)(LABELS > 2, LOGITS), by_hand((LABELS > 2) * 1, LOGITS).mean(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"y_true has shape \(3, 4, 2\), but y_pred .* expected a label for each"):
        wrap(loss)(np.zeros((3, 4, 2), int), LOGITS)


def test_label_smoothing_must_be_a_number():
    for loss in (kseq.losses.SequenceCrossEntropy, kseq.losses.CTC):
        with pytest.raises(ValueError, match="label_smoothing must be a finite number, but got label_smoothing='a'"):
            loss(label_smoothing="a")


def test_nan_in_the_padding_changes_nothing():
    poisoned = np.where(MASK[:, :, None], LOGITS, np.nan).astype("float32")
    loss = kseq.losses.SequenceCrossEntropy()
    assert float(loss(LABELS, masked(poisoned, MASK))) == float(loss(LABELS, masked(LOGITS, MASK)))
    (d_logits,) = gradient(lambda x: loss(LABELS, masked(x, MASK)), poisoned)
    assert np.isfinite(d_logits).all()
    assert np.all(d_logits[~MASK] == 0)


@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_labels_in_the_padding_may_be_anything(wrap):
    labels = np.where(MASK, LABELS, -1)
    loss = kseq.losses.SequenceCrossEntropy()
    got = wrap(lambda y, x: loss(y, masked(x, MASK)))(labels, LOGITS)
    np.testing.assert_allclose(got, loss(LABELS, masked(LOGITS, MASK)), rtol=1e-6)


def test_without_any_real_token_the_loss_is_zero():
    nothing = np.zeros((3, 4), bool)
    assert float(kseq.losses.SequenceCrossEntropy()(LABELS, masked(LOGITS, nothing))) == 0.0


def test_half_precision_is_computed_in_float32():
    loss = kseq.losses.SequenceCrossEntropy()(LABELS, ops.cast(LOGITS, "float16"))
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    np.testing.assert_allclose(loss, by_hand(LABELS, LOGITS).mean(), rtol=1e-3)  # the logits are rounded to 11 bits


def test_config_and_bad_smoothing():
    loss = kseq.losses.SequenceCrossEntropy(label_smoothing=0.2)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.label_smoothing == 0.2
    with pytest.raises(ValueError, match=r"label_smoothing=1\.0 must be"):
        kseq.losses.SequenceCrossEntropy(label_smoothing=1.0)


def test_reductions_are_honoured_and_leave_out_weight_zero():
    weights = np.array([[1.0, 2.0, 1.0, 0.0], [3.0, 1.0, 9.0, 9.0], [1.0, 1.0, 1.0, 1.0]], "float32")
    each, real = by_hand(LABELS, LOGITS) * weights, MASK * weights
    rows, of_row = (each * MASK).sum(axis=1)[:2], real.sum(axis=1)[:2]  # the last row has no token
    expected = {
        "mean_with_sample_weight": rows.sum() / of_row.sum(),
        "mean": rows.sum() / 6,
        "sum_over_batch_size": rows.sum() / 6,
        "mean_over_rows": (rows / of_row).mean(),
        "sum_over_time": rows.mean(),
        "sum": rows.sum(),
        "none": each * MASK,
    }
    assert set(expected) == set(kseq.losses.SequenceCrossEntropy.reductions)
    for reduction, value in expected.items():
        loss = kseq.losses.SequenceCrossEntropy(reduction=reduction)
        np.testing.assert_allclose(loss(LABELS, masked(LOGITS, MASK), weights), value, rtol=1e-6, err_msg=reduction)
    assert kseq.losses.SequenceCrossEntropy(reduction=None).reduction == "none"
    with pytest.raises(ValueError, match="reduction='nonsense', expected one of"):
        kseq.losses.SequenceCrossEntropy(reduction="nonsense")


def test_the_result_has_the_dtype_asked_for():
    loss = kseq.losses.SequenceCrossEntropy(dtype="bfloat16")
    assert keras.backend.standardize_dtype(loss(LABELS, LOGITS).dtype) == "bfloat16"
    assert keras.losses.deserialize(keras.losses.serialize(loss)).dtype == "bfloat16"


@pytest.mark.every_backend
@pytest.mark.parametrize("weights", [np.array([0.0, 1.0, 1.0]), np.array([[0.0] * 4, [1.0] * 4, [1.0] * 4])])
def test_nan_of_weight_zero_changes_nothing(weights):
    poisoned = LOGITS.copy()
    poisoned[0] = np.nan
    loss = kseq.losses.SequenceCrossEntropy(label_smoothing=0.1)
    expected = by_hand(LABELS, LOGITS, 0.1)[1:].mean()
    np.testing.assert_allclose(loss(LABELS, poisoned, weights), expected, rtol=1e-6)
    (d_logits,) = gradient(lambda x: loss(LABELS, x, weights), poisoned)
    assert np.isfinite(d_logits).all()
    assert (d_logits[0] == 0).all()
    assert np.abs(d_logits[1:]).max() > 0.01


@pytest.mark.long
@pytest.mark.every_backend
def test_labels_outside_the_vocabulary():
    """An error where they are known; in a graph the loss is NaN on every backend, with a gradient of the others."""
    labels = LABELS.copy()
    labels[1, 2] = -100
    loss, ignoring = kseq.losses.SequenceCrossEntropy(), kseq.losses.SequenceCrossEntropy(ignore_label=-100)
    with pytest.raises(ValueError, match=r"y_true\[1, 2\] = -100 is not a token id.* give ignore_label=-100"):
        loss(labels, LOGITS)
    expected = by_hand(LABELS, LOGITS)[labels >= 0].mean()
    np.testing.assert_allclose(ignoring(labels, LOGITS), expected, rtol=1e-6)
    for wrong in (labels, np.where(labels < 0, 5, labels), np.where(labels < 0, np.nan, labels)):
        assert np.isnan(compiled(loss)(wrong, LOGITS))
        (d_logits,) = gradient(lambda x, y=wrong: compiled(loss)(y, x), LOGITS)
        assert np.isfinite(d_logits).all()
        assert (d_logits[1, 2] == 0).all()
    np.testing.assert_allclose(compiled(ignoring)(labels, LOGITS), expected, rtol=1e-6)
