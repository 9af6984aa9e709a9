"""Accuracy of whole sequences."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from tests.metrics.test_token_accuracy import masked

LOGITS = np.eye(4, dtype="float32")[[[0, 1, 2], [3, 3, 3], [1, 1, 0]]]  # the predictions are 0 1 2, 3 3 3, 1 1 0
LABELS = np.array([[0, 1, 2], [3, 0, 3], [1, 1, -100]])


@pytest.mark.long_on_jax
def test_a_row_is_right_if_all_its_real_tokens_are():
    metric = kseq.metrics.SequenceAccuracy()
    assert float(metric.result()) == 0.0
    np.testing.assert_allclose(metric(LABELS, LOGITS), 1 / 3)
    metric.reset_state()
    metric.update_state(LABELS[:2], masked(LOGITS[:2], np.array([[True] * 3, [True, False, True]])))
    np.testing.assert_allclose(metric.result(), 1.0)
    nothing = masked(LOGITS[:1], np.zeros((1, 3), bool))
    np.testing.assert_allclose(metric(LABELS[:1], nothing), 1.0)  # a row that completes a batch is left out
    np.testing.assert_allclose(metric(LABELS[1:2], LOGITS[1:2]), 2 / 3)
    ignoring = kseq.metrics.SequenceAccuracy(ignore_label=-100)
    np.testing.assert_allclose(ignoring(LABELS, LOGITS), 2 / 3)


def test_weights_lengths_and_ids():
    np.testing.assert_allclose(kseq.metrics.SequenceAccuracy()(LABELS, LOGITS, np.array([1.0, 3.0, 0.0])), 1 / 4)
    np.testing.assert_allclose(
        kseq.metrics.SequenceAccuracy()(LABELS, LOGITS, np.array([[1, 1, 1], [1, 0, 1], [2, 2, 0]])), 1.0
    )
    ids = LOGITS.argmax(axis=-1)
    np.testing.assert_allclose(kseq.metrics.SequenceAccuracy()(LABELS[..., None], ids), 1 / 3)
    np.testing.assert_allclose(kseq.metrics.SequenceAccuracy()(LABELS, ids, lengths=np.array([3, 1, 2])), 1.0)
    np.testing.assert_allclose(kseq.metrics.SequenceAccuracy()(np.zeros((2, 0), int), np.zeros((2, 0), int)), 0.0)
    with pytest.raises(ValueError, match="expected a label for each token"):
        kseq.metrics.SequenceAccuracy()(LABELS[:, :2], LOGITS)


def test_nan_is_wrong():
    logits = LOGITS.copy()
    logits[0, 0] = np.nan  # whose largest value is the first, which is the label
    np.testing.assert_allclose(kseq.metrics.SequenceAccuracy()(LABELS[:1], logits[:1]), 0.0)
    mask = np.array([[False, True, True]])
    np.testing.assert_allclose(
        kseq.metrics.SequenceAccuracy()(LABELS[:1], masked(ops.convert_to_tensor(logits[:1]), mask)), 1.0
    )
    np.testing.assert_allclose(kseq.metrics.SequenceAccuracy()(LABELS[:1] * 0 - 1, logits[:1] * np.nan), 0.0)


def test_lists_of_texts_and_of_tokens():
    metric = kseq.metrics.SequenceAccuracy()
    np.testing.assert_allclose(metric(["a", "b", "c"], [b"a", "b", "d"]), 2 / 3)
    np.testing.assert_allclose(metric([["a", "b"]], [["a", "b"]], sample_weight=np.array([3.0])), 5 / 6)
    with pytest.raises(ValueError, match="1 references and 2 hypotheses"):
        metric(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="sample_weight has shape"):
        metric(["a"], ["b"], sample_weight=np.ones(2))


@pytest.mark.every_backend
def test_in_a_compiled_step():
    model = keras.Sequential([keras.layers.Identity()])
    model.compile(loss=kseq.losses.SequenceCrossEntropy(), metrics=[kseq.metrics.SequenceAccuracy()])
    np.testing.assert_allclose(model.evaluate(LOGITS, LABELS % 4, batch_size=2, verbose=0)[1], 2 / 3, rtol=1e-6)
