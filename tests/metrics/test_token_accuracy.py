"""Token accuracy."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq

LOGITS = np.eye(4, dtype="float32")[[[0, 1, 2], [3, 3, 3]]]  # the predictions are 0 1 2 and 3 3 3
LABELS = np.array([[0, 2, 2], [3, 0, 3]])


def masked(logits, mask):
    return keras.layers.Lambda(lambda x: x + 0.0, mask=lambda x, m: ops.convert_to_tensor(mask))(logits)


@pytest.mark.long_on_jax
def test_counts_real_tokens_exactly_over_unequal_batches():
    metric = kseq.metrics.TokenAccuracy()
    assert float(metric.result()) == 0.0
    metric.update_state(LABELS, masked(LOGITS, np.array([[True, True, False], [True, False, False]])))
    np.testing.assert_allclose(metric.result(), 2 / 3)
    metric.update_state(LABELS[:1], LOGITS[:1])
    np.testing.assert_allclose(metric.result(), 4 / 6)
    metric.reset_state()
    metric.update_state(LABELS, LOGITS, sample_weight=np.array([1.0, 3.0]))
    np.testing.assert_allclose(metric.result(), (2 + 3 * 2) / (3 + 3 * 3))
    metric.reset_state()
    metric.update_state(LABELS, LOGITS, sample_weight=np.array([[0, 1, 0], [0, 1, 1.0]])[:, :, None])
    np.testing.assert_allclose(metric.result(), 1 / 3)


def test_labels_may_have_a_last_axis_of_size_1_or_be_bools():
    np.testing.assert_allclose(kseq.metrics.TokenAccuracy()(LABELS[:, :, None], LOGITS), 4 / 6)
    np.testing.assert_allclose(kseq.metrics.TokenAccuracy()(np.array([[False, True, True]]), LOGITS[:1]), 2 / 3)
    model = keras.Sequential([keras.layers.Identity()])
    model.compile(loss=kseq.losses.SequenceCrossEntropy(), metrics=[kseq.metrics.TokenAccuracy()])
    for labels in (LABELS[:, :, None], LABELS):  # TensorFlow traces the second step with labels of unknown rank
        np.testing.assert_allclose(model.evaluate(LOGITS, labels, verbose=0)[1], 4 / 6, rtol=1e-6)
    with pytest.raises(ValueError, match=r"y_true has shape \(2, 1\), but y_pred has shape \(2, 3, 4\)"):
        kseq.metrics.TokenAccuracy()(LABELS[:, :1], LOGITS)


def test_an_ignored_label_does_not_count():
    labels = np.array([[0, 2, -100], [-100, 0, 3]])
    metric = kseq.metrics.TokenAccuracy(ignore_label=-100)
    np.testing.assert_allclose(metric(labels, LOGITS), 2 / 4)
    np.testing.assert_allclose(kseq.metrics.TokenAccuracy()(labels, LOGITS), 2 / 6)
