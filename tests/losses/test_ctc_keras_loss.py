"""The CTC loss as a Keras loss: lengths from masks, weights, smoothing, `fit`."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.alignment import CTCTopology
from tests.alignment.cases import random_batch
from tests.support import compiled, gradient

LABELS, LOGITS, LABEL_LENGTHS, LOGIT_LENGTHS = random_batch(4, 20, 6, 5, seed=8)
PADDED = np.where(np.arange(5) < LABEL_LENGTHS[:, None], LABELS, -1)
MASK = np.arange(20) < LOGIT_LENGTHS[:, None]


@pytest.fixture(scope="module")
def each():
    """Return the loss of each row."""
    return np.asarray(kseq.ctc_loss(LABELS, LOGITS, LABEL_LENGTHS, LOGIT_LENGTHS))


def masked(logits, mask=MASK):
    """Return logits with an implicit mask, like a Keras layer's output."""
    return keras.layers.Lambda(lambda x: x + 0.0, mask=lambda x, m: ops.convert_to_tensor(mask))(logits)


@pytest.mark.long
@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_lengths_come_from_the_padding_and_the_mask(wrap, each):
    loss = kseq.losses.CTC()
    got = wrap(lambda y, x: loss(y, masked(x)))(PADDED, LOGITS)
    np.testing.assert_allclose(got, each.mean(), rtol=1e-6)
    # Keras may pass the labels on as float32.
    np.testing.assert_allclose(loss(PADDED.astype("float32"), masked(LOGITS)), each.mean(), rtol=1e-6)


@pytest.mark.long
def test_lengths_may_be_given(each):
    loss = kseq.losses.CTC()
    targets = {"labels": LABELS, "label_lengths": LABEL_LENGTHS, "logit_lengths": LOGIT_LENGTHS}
    np.testing.assert_allclose(loss(targets, LOGITS), each.mean(), rtol=1e-6)
    # Given lengths take precedence over the mask; without either all frames count.
    np.testing.assert_allclose(loss(targets, masked(LOGITS, np.ones_like(MASK))), each.mean(), rtol=1e-6)
    whole = kseq.ctc_loss(PADDED[:, :1] * 0 + 1, np.zeros_like(LOGITS), np.ones(4, int), np.full(4, 20))
    np.testing.assert_allclose(loss(np.ones((4, 1), int), np.zeros_like(LOGITS)), whole[0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"y_true is a dict of \['lengths'\]; expected labels"):
        loss({"lengths": LABEL_LENGTHS}, LOGITS)


def test_rows_have_weights(each):
    weights = np.array([1.0, 0.0, 2.0, 0.5], "float32")
    got = kseq.losses.CTC()(PADDED, masked(LOGITS), weights)
    np.testing.assert_allclose(got, (each * weights).sum() / 3.5, rtol=1e-6)
    assert float(kseq.losses.CTC()(PADDED, masked(LOGITS), np.zeros(4))) == 0.0


def test_an_infeasible_row_of_weight_zero_does_not_count():
    labels, logits = np.array([[1, 1], [1, 2]]), np.zeros((2, 2, 3), "float32")
    weights = np.array([0.0, 1.0])
    expected = float(kseq.ctc_loss(labels, logits, np.full(2, 2), np.full(2, 2))[1])
    assert float(kseq.losses.CTC()(labels, logits)) == np.inf
    np.testing.assert_allclose(kseq.losses.CTC()(labels, logits, weights), expected, rtol=1e-6)
    np.testing.assert_allclose(kseq.losses.CTC(infeasible="zero")(labels, logits), expected / 2, rtol=1e-6)
    for options, w in (({}, weights), ({"infeasible": "zero", "label_smoothing": 0.1}, None)):
        (d_logits,) = gradient(lambda x, o=options, w=w: kseq.losses.CTC(**o)(labels, x, w), logits)
        assert (d_logits[0] == 0).all()
        assert np.isfinite(d_logits).all()
        assert np.abs(d_logits[1]).max() > 0.01


@pytest.mark.long
def test_label_smoothing(each):
    loss = kseq.losses.CTC(label_smoothing=0.2, blank_index=0)
    scores = LOGITS - np.log(np.sum(np.exp(LOGITS), axis=-1, keepdims=True))
    uniform = -np.where(MASK, scores.mean(-1), 0.0).sum(1)
    np.testing.assert_allclose(loss(PADDED, masked(LOGITS)), (0.8 * each + 0.2 * uniform).mean(), rtol=1e-6)
    (d_logits,) = gradient(lambda x: loss(PADDED, masked(x)), LOGITS)
    assert np.isfinite(d_logits).all()
    assert (d_logits[~MASK] == 0).all()
    with pytest.raises(ValueError, match=r"label_smoothing=1\.0 must be"):
        kseq.losses.CTC(label_smoothing=1.0)


@pytest.mark.long
def test_reductions_are_honoured(each):
    weights = np.array([1.0, 0.0, 2.0, 0.5], "float32")
    total = (each * weights).sum()
    expected = {
        "mean_with_sample_weight": total / 3.5,
        "mean": total / 4,
        "sum_over_batch_size": total / 4,
        "sum": total,
        "none": each * weights,
    }
    assert set(expected) == set(kseq.losses.CTC.reductions)
    for loss in (kseq.losses.CTC, lambda **options: kseq.losses.AlignmentLoss(topology=CTCTopology(), **options)):
        ratio = loss(reduction="sum")(PADDED, masked(LOGITS), weights) / total  # 1 for CTC
        for reduction, value in expected.items():
            got = loss(reduction=reduction)(PADDED, masked(LOGITS), weights)
            if reduction != "none" or loss is kseq.losses.CTC:
                np.testing.assert_allclose(got, value * ratio, rtol=1e-5, err_msg=reduction)
        with pytest.raises(ValueError, match="reduction='nonsense', expected one of"):
            loss(reduction="nonsense")
    assert kseq.losses.CTC(dtype="bfloat16")(PADDED, masked(LOGITS)).dtype == "bfloat16"


@pytest.mark.long
@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
@pytest.mark.parametrize("loss", [kseq.losses.CTC(label_smoothing=0.1), kseq.losses.AlignmentLoss(alignment="best")])
def test_a_row_of_weight_zero_may_be_nan_and_have_wrong_labels(loss, wrap):
    labels, logits = np.array([[9, 1], [1, 2]]), np.zeros((2, 4, 3), "float32")
    logits[0], weights = np.nan, np.array([0.0, 1.0])
    np.testing.assert_allclose(loss(labels, logits, weights), loss(labels[1:], logits[1:]), rtol=1e-6)
    (d_logits,) = gradient(lambda x: wrap(lambda y, x: loss(y, x, weights))(labels, x), logits)
    assert (d_logits[0] == 0).all()
    assert np.isfinite(d_logits).all()
    assert np.abs(d_logits[1]).max() > 0.01


@pytest.mark.long
@pytest.mark.every_backend
def test_in_a_graph_a_wrong_row_is_not_hidden_by_infeasible():
    """Only a row that is valid, and too short, counts 0."""
    logits = np.zeros((3, 2, 3), "float32")
    for labels in (np.array([[1, 0], [1, 1], [1, 2]]), np.array([[1, np.nan], [1, 1], [1, 2]])):
        for options in ({}, {"label_smoothing": 0.1}):
            loss = kseq.losses.CTC(infeasible="zero", reduction="none", **options)
            with warnings.catch_warnings(action="ignore"):
                losses = np.asarray(compiled(loss)(labels, logits))
                jax_effects()
            assert losses[0] == np.inf
            assert losses[1] == 0.0
            assert np.isfinite(losses[2])


def jax_effects():
    """Wait for the warnings that JAX issues from another thread."""
    if keras.backend.backend() == "jax":
        import jax

        jax.effects_barrier()


def fit(model, logits, labels):
    loss = model.fit(logits, labels, verbose=0).history["loss"]
    jax_effects()
    return loss


@pytest.mark.long
@pytest.mark.every_backend
def test_labels_padded_with_the_blank_are_warned_of_in_fit():
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("adam", loss=kseq.losses.CTC())
    logits = np.zeros((2, 4, 3), "float32")
    message = r"Some labels are the blank.*np.where\(labels == 0, -1, labels\)"
    with pytest.warns(UserWarning, match=message):
        assert fit(model, logits, np.array([[1, 2], [1, 0]])) == [np.inf]
    assert np.isfinite(fit(model, logits, np.array([[1, 2], [1, -1]])))


@pytest.mark.long
@pytest.mark.every_backend
@pytest.mark.parametrize("loss", [kseq.losses.CTC, kseq.losses.AlignmentLoss])
def test_labels_that_are_no_class_and_short_rows_are_warned_of_in_fit(loss):
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("adam", loss=loss())
    logits = np.zeros((2, 3, 3), "float32")
    with pytest.warns(UserWarning, match=r"Some labels are no class of the logits, 0 to 2"):
        assert fit(model, logits, np.array([[1, 2, -1, -1], [1, 3, -1, -1]])) == [np.inf]
    labels = np.array([[1, 2, -1, -1], [1, 1, 2, 1 if loss is kseq.losses.AlignmentLoss else -1]])
    with pytest.warns(UserWarning, match=r"Some rows have fewer frames than labels.* infeasible=\"zero\""):
        assert fit(model, logits, labels) == [np.inf]
    model.compile("adam", loss=loss(infeasible="zero"))
    assert np.isfinite(fit(model, logits, labels))


@pytest.mark.long
@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_no_rows(wrap):
    arguments = np.zeros((0, 2), int), np.zeros((0, 4, 3), "float32"), np.zeros(0, int), np.zeros(0, int)
    assert wrap(kseq.ctc_loss)(*arguments).shape == (0,)
    assert wrap(kseq.alignment.ctc_forced_align)(*arguments).states.shape == (0, 4)
    (d_logits,) = gradient(lambda x: ops.sum(kseq.ctc_loss(arguments[0], x, *arguments[2:])), arguments[1])
    assert d_logits.shape == (0, 4, 3)
    assert float(kseq.losses.CTC()(arguments[0], arguments[1])) == 0.0


def test_config():
    loss = kseq.losses.CTC(blank_index=-1, infeasible="zero", label_smoothing=0.1)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(again, kseq.losses.CTC)
    assert (again.blank_index, again.infeasible, again.label_smoothing) == (-1, "zero", 0.1)
    with pytest.raises(ValueError, match="infeasible='nan', expected one of"):
        kseq.losses.CTC(infeasible="nan")


@pytest.mark.long
@pytest.mark.every_backend
def test_a_masked_model_learns_in_fit_and_is_loaded_again(tmp_path):
    """The task: rows of digits, each shown for two or three frames, with a blank frame between; padded and masked."""
    random = np.random.default_rng(0)
    labels, inputs = np.full((64, 4), -1), np.zeros((64, 16), "int32")
    for row in range(64):
        count, frames = random.integers(1, 5), []
        for place in range(count):
            labels[row, place] = random.integers(1, 4)
            frames += [labels[row, place]] * random.integers(2, 4) + [4]
        inputs[row, : len(frames)] = frames
    model = keras.Sequential([keras.layers.Embedding(5, 8, mask_zero=True), keras.layers.Dense(4)])
    model.compile(keras.optimizers.Adam(0.03), loss=kseq.losses.CTC())
    history = model.fit(inputs, labels, epochs=25, batch_size=32, verbose=0).history["loss"]
    assert history[0] > 4.0
    assert history[-1] < 0.3
    counts, frames = (labels > 0).sum(1), (inputs > 0).sum(1)
    each = kseq.ctc_loss(labels, model.predict(inputs, verbose=0), counts, frames)
    value = model.evaluate(inputs, labels, batch_size=64, verbose=0)
    np.testing.assert_allclose(value, np.mean(each), rtol=1e-5)  # frames in the padding are ignored
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again.loss, kseq.losses.CTC)
    np.testing.assert_allclose(again.evaluate(inputs, labels, batch_size=64, verbose=0), value, rtol=1e-6)
