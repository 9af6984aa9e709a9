"""The alignment loss, along one alignment and over all."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.alignment import CTCTopology, OrderSynchronous, viterbi_align
from kseq.losses import AlignmentLoss
from tests.alignment.cases import random_batch
from tests.reference import alignment as reference
from tests.support import BACKEND, compiled, gradient

TOPOLOGIES = [OrderSynchronous(), CTCTopology(0)]
LABELS, LOGITS, LABEL_LENGTHS, LOGIT_LENGTHS = random_batch(4, 6, 5, 3, seed=5)
LABEL_LENGTHS = np.maximum(LABEL_LENGTHS, 1)
LABELS = np.where(np.arange(3) < LABEL_LENGTHS[:, None], np.where(LABELS > 4, 1, LABELS), -1)
BATCH = LABELS, LOGITS, LABEL_LENGTHS, LOGIT_LENGTHS
TARGETS = {"labels": LABELS, "label_lengths": LABEL_LENGTHS, "logit_lengths": LOGIT_LENGTHS}
SCORES = reference.log_softmax(np.nan_to_num(LOGITS))


def alignments(topology):
    """Return all alignments of each row."""
    blank = topology.blank_index
    return [
        reference.every_alignment(LABELS[row, : LABEL_LENGTHS[row]].tolist(), LOGITS[row, : LOGIT_LENGTHS[row]], blank)
        for row in range(4)
    ]


@functools.cache
def values_and_gradient(alignment, topology):
    """Return the losses of rows and the gradient of their sum, compiled; on TensorFlow check the eager losses too."""
    loss = AlignmentLoss(alignment=alignment, topology=topology)
    losses, d_logits = both(loss.call, TARGETS, LOGITS)
    if BACKEND == "tensorflow":
        np.testing.assert_allclose(loss.call(TARGETS, LOGITS), losses, rtol=1e-5)
    return losses, d_logits


def both(function, targets, logits):
    """Return `function(targets, logits)`, compiled, and the gradient of the sum of its values."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function(jit_compile=True, autograph=False)
        def run(targets, logits):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                values = function(targets, logits)
            return values, tape.gradient(values, logits)

    else:
        import jax

        @jax.jit
        def run(targets, logits):
            def total(logits):
                values = function(targets, logits)
                return ops.sum(values), values

            d_logits, values = jax.grad(total, has_aux=True)(logits)
            return values, d_logits

    tensors = keras.tree.map_structure(ops.convert_to_tensor, (targets, logits))
    return keras.tree.map_structure(np.asarray, run(*tensors))


@pytest.mark.long
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_best_is_the_best_path_s_cross_entropy(topology):
    losses, d_logits = values_and_gradient("best", topology)
    expected = [-max(score for _, score in each) for each in alignments(topology)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    classes = np.asarray(compiled(lambda *batch: viterbi_align(*batch, topology=topology).classes)(*BATCH))
    d_expected = np.where((classes >= 0)[:, :, None], np.exp(SCORES) - np.eye(5)[classes], 0.0)
    np.testing.assert_allclose(d_logits, d_expected, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_all_is_the_expected_divergence(topology):
    losses, d_logits = values_and_gradient("all", topology)
    expected = []
    for each in alignments(topology):
        scores = np.array([score for _, score in each])
        expected.append(-np.sum(np.exp(scores - np.logaddexp.reduce(scores)) * scores))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for row in range(4):
        count, frames = LABEL_LENGTHS[row], LOGIT_LENGTHS[row]
        want = reference.gradient(LABELS[row, :count].tolist(), LOGITS[row, :frames], topology.blank_index)
        np.testing.assert_allclose(d_logits[row, :frames], want, atol=1e-6)
        assert (d_logits[row, frames:] == 0).all()


def test_uniform_shares_the_frames():
    logits, lengths = np.zeros((2, 7, 4), "float32"), np.array([7, 4])
    logits[0, :, 1], logits[1] = np.arange(7), np.nan
    logits[1, :4] = 0.0
    labels = {"labels": np.array([[1, 2, 3], [2, 2, 0]]), "label_lengths": np.array([3, 2]), "logit_lengths": lengths}
    (d_logits,) = gradient(lambda x: ops.sum(AlignmentLoss(alignment="uniform").call(labels, x)), logits)
    # A gradient step raises the logit of the aligned class alone.
    assert np.argmin(d_logits[0], axis=-1).tolist() == [1, 1, 2, 2, 2, 3, 3]
    assert np.argmin(d_logits[1, :4], axis=-1).tolist() == [2] * 4
    loss = AlignmentLoss(alignment="uniform", topology=CTCTopology())
    (d_logits,) = gradient(lambda x: ops.sum(loss.call(labels, x)), logits)
    assert np.argmin(d_logits[0], axis=-1).tolist() == [0, 1, 0, 2, 0, 3, 0]
    assert np.argmin(d_logits[1, :4], axis=-1).tolist() in ([2, 0, 2, 0], [0, 2, 0, 2], [2, 0, 0, 2])
    assert np.isfinite(d_logits).all()


def test_given_is_the_cross_entropy_with_what_is_given():
    alignment = np.array([[1, 1, 2, 2, 2, 3], [4, 4, 4, -1, -1, -1], [0] * 6, [3, 2, 1, 1, -1, 4]])
    loss = AlignmentLoss(alignment="given")
    logits = np.nan_to_num(LOGITS)
    inside = np.cumprod(alignment >= 0, axis=1).astype(bool)
    each = -np.take_along_axis(SCORES, np.maximum(alignment, 0)[:, :, None], axis=2)[:, :, 0]
    np.testing.assert_allclose(loss(alignment, logits), np.where(inside, each, 0).sum(1).mean(), rtol=1e-6)
    wrong = np.where(alignment == 3, LOGITS.shape[2], alignment)
    with pytest.raises(ValueError, match=rf'alignment="given" has the class {LOGITS.shape[2]}, but the logits have'):
        loss(wrong, logits)
    each = np.asarray(compiled(AlignmentLoss(alignment="given", reduction="none"))(wrong, logits))
    np.testing.assert_array_equal(np.isnan(each), (wrong == LOGITS.shape[2]).any(axis=1))
    with pytest.raises(ValueError, match=r'alignment="given" takes y_true of shape \(batch, time\)'):
        loss(alignment[:, :3], logits)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Some rows have fewer frames")  # on JAX, where nothing is known before it runs
@pytest.mark.every_backend
@pytest.mark.parametrize("alignment", ["best", "all", "uniform"])
def test_infeasible_rows(alignment):
    labels = {"labels": np.array([[1, 2, 1], [1, -1, -1]]), "label_lengths": np.array([3, 1])}
    logits = np.zeros((2, 2, 3), "float32")

    losses = [AlignmentLoss(alignment=alignment, infeasible=worth).call for worth in ("inf", "zero")]
    values, d_logits = both(lambda *arguments: ops.stack([loss(*arguments) for loss in losses]), labels, logits)
    np.testing.assert_allclose(values, [[np.inf, 2 * np.log(3)], [0.0, 2 * np.log(3)]], rtol=1e-6)
    assert (d_logits[0] == 0).all()
    np.testing.assert_allclose(d_logits[1], 2 * np.array([[1 / 3, -2 / 3, 1 / 3]] * 2), rtol=1e-5)


def test_config_and_wrong_options():
    loss = AlignmentLoss(alignment="best", topology=CTCTopology(3), infeasible="zero")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert (again.alignment, again.topology, again.infeasible) == ("best", CTCTopology(3), "zero")
    assert AlignmentLoss().topology == OrderSynchronous()
    for options in ({"topology": CTCTopology()}, {"infeasible": "zero"}):
        with pytest.raises(ValueError, match='alignment="given" has no topology and no infeasible rows'):
            AlignmentLoss(alignment="given", **options)
    given = keras.losses.serialize(AlignmentLoss(alignment="given"))
    old = {**loss.get_config(), "alignment": "given"}  # as written before these options were refused
    for config in (given["config"], old):
        assert AlignmentLoss.from_config(config).alignment == "given"
    with pytest.raises(ValueError, match="alignment='worst', expected one of"):
        AlignmentLoss(alignment="worst")
    with pytest.raises(ValueError, match="infeasible='nan', expected one of"):
        AlignmentLoss(infeasible="nan")


@pytest.mark.long
@pytest.mark.parametrize("alignments", [("uniform", "best"), ("all",)])
def test_a_model_finds_where_the_labels_are(alignments):
    """Each of three kinds of frames is a label, in runs of unequal length: the targets give only the order."""
    random = np.random.default_rng(1)
    labels, kinds = np.zeros((64, 4), int), np.zeros((64, 24), int)
    for row in range(64):
        labels[row] = np.cumsum([random.integers(3), *random.integers(1, 3, size=3)]) % 3  # neighbours differ
        held = np.repeat(labels[row], random.integers(2, 7, size=4)) + 1
        kinds[row, : len(held)] = held
    model = keras.Sequential([keras.layers.Embedding(4, 8, mask_zero=True), keras.layers.Dense(3)])
    for alignment in alignments:
        loss = AlignmentLoss(alignment=alignment)
        model.compile(keras.optimizers.Adam(0.05), loss=loss, jit_compile=False)
        model.fit(kinds, labels, batch_size=32, epochs=15, verbose=0)
    logits = np.asarray(model(kinds))
    assert (np.argmax(logits, -1) + 1 == kinds)[kinds > 0].all()


@pytest.mark.long
@pytest.mark.every_backend
def test_all_has_the_gradient_of_the_log_probability():
    losses, d_all = values_and_gradient("all", CTCTopology(0))
    targets = [TARGETS[name] for name in ("labels", "label_lengths", "logit_lengths")]
    exact, d_ctc = both(lambda y, x: kseq.ctc_loss(y[0], x, *y[1:]), targets, LOGITS)
    np.testing.assert_allclose(d_all, d_ctc, atol=1e-6)
    assert (losses >= exact).all()
