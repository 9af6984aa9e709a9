"""The compiled cross-entropy of large vocabularies gives what a plain graph gives."""

import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq.losses import compiled_cross_entropy
from tests.support import compiled_functions

LABELS = np.array([[1, 5, 2, 0, 0], [3, 9, 1, 1, -100], [4, 4, 4, 4, 4]])  # 9 is no class, -100 is ignored


@pytest.mark.long
@pytest.mark.parametrize("unknown", [False, True])
def test_cross_entropy_of_a_large_vocabulary_is_that_of_a_plain_graph(unknown, monkeypatch):
    monkeypatch.setattr(compiled_cross_entropy, "FEWEST_CLASSES", 5)
    logits = np.random.default_rng(0).normal(size=(3, 5, 6)).astype("float32")
    logits[0, 3:], logits[2, 4] = np.nan, 1e2
    weights = np.array([[1.0, 2.0, 1.0, 0.0, 0.0], [1, 1, 1, 0.5, 1], [1, 1, 1, 1, 1]], "float32")
    loss = kseq.losses.SequenceCrossEntropy(ignore_label=-100, label_smoothing=0.1, reduction="none")
    sizes, results = [None, None] if unknown else [3, 5], []
    for setting in (False, True):
        signature = [tf.TensorSpec([*sizes, 6]), tf.TensorSpec(sizes, "int64"), tf.TensorSpec(sizes)]

        @tf.function(autograph=False, input_signature=signature)
        def run(logits, labels, weights):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                losses = loss(labels, logits, weights)
            return losses, tape.gradient(losses, logits)

        with kseq.config.jit_compile_scope(setting):
            graph = run.get_concrete_function()
        assert len(compiled_functions(graph)) == (2 if setting else 0)
        results.append(graph(*map(tf.constant, (logits, LABELS, weights))))
    assert np.isnan(results[0][0]).sum() == 1
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
