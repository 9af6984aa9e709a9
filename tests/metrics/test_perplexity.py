"""Perplexity."""

import numpy as np
import pytest
from keras import ops

import kseq
from tests.metrics.test_token_accuracy import masked

LABELS = np.array([[0, 2, 1], [3, 0, -100]])
LOGITS = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")


def expected(real):
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=-1, keepdims=True)
    return np.exp(-np.mean([np.log(probabilities[i, j, LABELS[i, j]]) for i, j in np.argwhere(real)]))


@pytest.mark.long_on_jax
def test_is_exact_over_unequal_batches():
    real = np.array([[True, True, False], [True, False, False]])
    metric = kseq.metrics.Perplexity()
    assert float(metric.result()) == 1.0
    for row in (0, 1):
        metric.update_state(LABELS[row : row + 1], masked(LOGITS[row : row + 1], real[row : row + 1]))
    np.testing.assert_allclose(metric.result(), expected(real), rtol=1e-5)


def test_labels_that_do_not_count_and_labels_that_are_no_tokens():
    real = LABELS >= 0
    np.testing.assert_allclose(kseq.metrics.Perplexity(ignore_label=-100)(LABELS, LOGITS), expected(real), rtol=1e-5)
    assert np.isnan(kseq.metrics.Perplexity()(LABELS, LOGITS))
    np.testing.assert_allclose(kseq.metrics.Perplexity()(LABELS, LOGITS, real), expected(real), rtol=1e-5)
    logits = np.where(real[..., None], LOGITS, np.nan)
    np.testing.assert_allclose(
        kseq.metrics.Perplexity()(LABELS, masked(ops.convert_to_tensor(logits), real)), expected(real), rtol=1e-5
    )
