"""The CRF layer and its loss: training of the transitions, masks, weights, files, mixed precision, wrong input."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from tests.support import BACKEND, gradient, traced

NAMES = ["O", "B-X", "I-X"]
TIME = 6
RANDOM = np.random.default_rng(0)
LENGTHS = RANDOM.integers(1, TIME + 1, size=32)
INPUTS = np.where(np.arange(TIME) < LENGTHS[:, None], 1, 0)  # ids that say nothing of the tags
TAGS = (RANDOM.integers(0, 3, size=(32, 1)) + np.arange(TIME)) % 3  # tags 0, 1, 2, 0, ..., from a random one on
MASK = INPUTS > 0


def masked_model(crf, features=4):
    inputs = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(5, features, mask_zero=True)(inputs)
    return keras.Model(inputs, crf(embedded))


def scores_of_rows(rows=4, time=5, tags=3, seed=1):
    random = np.random.default_rng(seed)
    scores = random.normal(size=(rows, time, tags)).astype("float32")
    return scores, random.integers(0, tags, size=(rows, time)), random.integers(1, time + 1, size=rows)


def built(**options):
    """Return a layer over scores of 3 tags, with random transitions."""
    crf = kseq.layers.CRF(3, transitions_initializer="orthogonal", boundary_initializer="random_normal", **options)
    crf.build((None, None, 3))
    return crf


def masked(crf, scores, lengths):
    return crf(scores, mask=np.arange(scores.shape[1]) < lengths[:, None])


@pytest.mark.long
@pytest.mark.every_backend
def test_fit_learns_transitions_that_the_features_do_not_tell(tmp_path):
    crf = kseq.layers.CRF(3)
    model = masked_model(crf)
    model.compile(keras.optimizers.Adam(0.1), loss=crf.loss, jit_compile=BACKEND != "tensorflow")
    with kseq.config.jit_compile_scope(True):
        losses = model.fit(INPUTS, TAGS, epochs=40, batch_size=32, verbose=0).history["loss"]
    assert losses[0] > 2.5
    assert losses[-1] < np.log(3) + 0.15  # the first tag remains unknown
    transitions = np.asarray(crf.transitions)
    assert transitions[[0, 1, 2], [1, 2, 0]].min() > transitions[[0, 1, 2], [0, 1, 2]].max() + 3.0
    decoded = ops.convert_to_numpy(crf.decode(model.predict(INPUTS, verbose=0), MASK))
    assert (decoded[~MASK] == -1).all()
    followed = (decoded[:, 1:] == (decoded[:, :-1] + 1) % 3)[MASK[:, 1:]]
    assert followed.all()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again.loss, kseq.losses.CRF)
    expected = model.evaluate(INPUTS, TAGS, verbose=0)
    np.testing.assert_allclose(again.evaluate(INPUTS, TAGS, verbose=0), expected, rtol=1e-6)
    again.layers[-1].transitions.assign(np.zeros((3, 3)))
    assert again.evaluate(INPUTS, TAGS, verbose=0) > expected + 0.5  # they are those of the loaded layer


@pytest.mark.long
def test_the_loss_is_the_mean_of_the_rows_by_weight():
    scores, tags, lengths = scores_of_rows()
    crf = built()
    chain = crf.transition_scores()
    each = -np.asarray(kseq.losses.crf_log_likelihood(tags, scores, lengths, **chain))
    output = masked(crf, scores, lengths)
    np.testing.assert_allclose(crf.loss(tags, output), each.mean(), rtol=1e-6)
    np.testing.assert_allclose(crf.loss(tags[..., None].astype("float32"), output), each.mean(), rtol=1e-6)
    np.testing.assert_allclose(crf.loss.call(tags, output), each, rtol=1e-6)
    padded = np.where(np.arange(5) < lengths[:, None], tags, -1)  # tells lengths where there is no mask
    np.testing.assert_allclose(crf.loss(padded, crf(scores)), each.mean(), rtol=1e-6)
    weights = np.array([1.0, 0.0, 2.0, 0.5])
    np.testing.assert_allclose(crf.loss(tags, output, weights), (each * weights).sum() / 3.5, rtol=1e-6)
    for reduction, expected in (("sum", each.sum()), ("none", each), (None, each)):
        np.testing.assert_allclose(kseq.losses.CRF(reduction=reduction)(tags, output), expected, rtol=1e-6)


@pytest.mark.long
def test_a_row_of_weight_zero_may_be_wrong_and_has_no_gradient():
    scores, tags, lengths = scores_of_rows()
    crf = built()
    wrong = scores.copy(), tags.copy()
    wrong[0][1], wrong[1][1] = np.nan, 9
    weights = np.array([1.0, 0.0, 1.0, 1.0])
    value = traced(lambda y, x: crf.loss(y, masked(crf, x, lengths), weights))(wrong[1], wrong[0])
    np.testing.assert_allclose(value, crf.loss(tags, masked(crf, scores, lengths), weights), rtol=1e-6)
    (d_scores,) = gradient(
        lambda x: traced(lambda x: crf.loss(wrong[1], masked(crf, x, lengths), weights))(x), wrong[0]
    )
    assert np.isfinite(d_scores).all()
    assert (d_scores[1] == 0).all()
    assert np.abs(d_scores[0]).max() > 0


def test_scores_have_a_projection_if_their_number_is_another():
    inputs = RANDOM.normal(size=(2, 4, 3)).astype("float32")
    for options, width, weights in (
        ({}, 3, 3),
        ({}, 5, 5),
        ({"use_kernel": True}, 3, 5),
        ({"use_boundary": False}, 3, 1),
    ):
        crf = kseq.layers.CRF(3, **options)
        scores = crf(np.zeros((2, 4, width), "float32") if width == 5 else inputs)
        assert scores.shape == (2, 4, 3)
        assert len(crf.weights) == weights
    crf = kseq.layers.CRF(3, use_kernel=True)
    expected = crf(inputs) - crf.bias
    np.testing.assert_allclose(expected, inputs @ np.asarray(crf.kernel), rtol=1e-5)
    np.testing.assert_array_equal(kseq.layers.CRF(3)(inputs), inputs)
    with pytest.raises(ValueError, match=r"use_kernel=False and num_tags=3 need that many scores"):
        kseq.layers.CRF(3, use_kernel=False)(np.zeros((2, 4, 5)))


@pytest.mark.long
def test_a_scheme_applies_to_the_loss_and_to_decoding():
    scores, tags, lengths = scores_of_rows()
    tags[:, :2] = [0, 2]
    crf, free = built(names=NAMES, scheme="BIO"), built(names=NAMES, scheme="BIO", constrain_loss=False)
    lengths[:] = 5
    with warnings.catch_warnings(action="ignore"):
        assert float(traced(lambda y, x: crf.loss(y, crf(x)))(tags, scores)) == np.inf
    assert float(kseq.losses.CRF(infeasible="zero")(tags, crf(scores))) == 0.0
    assert np.isfinite(free.loss(tags, free(scores)))
    for layer in (crf, free):
        decoded = layer.decode(layer(10.0 * scores), top_paths=5)
        found = np.asarray(decoded.tags)
        assert not ((found[..., 1:] == 2) & (found[..., :-1] == 0)).any()
        assert not (found[..., 0] == 2).any()
        marginals = np.asarray(layer.marginals(layer(scores)))
        assert (marginals[:, 0, 2] == 0).all()
        np.testing.assert_allclose(marginals.sum(-1), np.ones((4, 5)), rtol=1e-6)


@pytest.mark.long
def test_masks_come_from_the_scores_or_are_given():
    scores, _, lengths = scores_of_rows()
    crf = built()
    mask = np.arange(5) < lengths[:, None]
    output = masked(crf, scores, lengths)
    decoded = np.asarray(crf.decode(output))
    assert ((decoded >= 0) == mask).all()
    np.testing.assert_array_equal(crf.decode(scores, mask), decoded)
    np.testing.assert_allclose(crf.marginals(output), crf.marginals(scores, mask), rtol=1e-6)
    assert (np.asarray(crf.decode(scores)) >= 0).all()
    left = mask[:, ::-1].copy()
    row = int(np.argmax(lengths < 5))
    with pytest.raises(ValueError, match=f"Row {row} of the mask has padding before a real step"):
        crf.decode(scores, left)
    assert (np.asarray(traced(crf.decode)(scores, left))[row] == -1).all()
    assert float(traced(lambda x: crf.loss(np.zeros((4, 5), int), masked(crf, x[:, ::-1], lengths)))(scores)) > 0


@pytest.mark.long
def test_mixed_precision_trains_in_float32():
    crf = kseq.layers.CRF(3, dtype="mixed_float16", use_kernel=True)
    model = masked_model(crf)
    assert model.output.dtype == "float32"
    model.compile(keras.optimizers.Adam(0.1), loss=crf.loss)
    losses = model.fit(INPUTS, TAGS, epochs=2, verbose=0, batch_size=32).history["loss"]
    assert losses[-1] < losses[0]
    assert all(weight.dtype == "float32" for weight in crf.weights)
    scores = np.full((1, 2, 3), 1.0001, "float32")  # which half precision would round
    np.testing.assert_array_equal(kseq.layers.CRF(3, dtype="mixed_bfloat16")(scores), scores)


@pytest.mark.long
def test_wrong_rows_are_warned_of_in_fit():
    crf = kseq.layers.CRF(3, names=NAMES, scheme="BIO")
    model = masked_model(crf)
    model.compile("sgd", loss=crf.loss)
    wrong = np.zeros_like(TAGS)
    wrong[0, 0] = 7
    with pytest.warns(UserWarning, match="Some tags are not between 0 and 2: the loss of these rows is inf"):
        model.fit(INPUTS, wrong, verbose=0)
    wrong[0, 0] = 2
    with pytest.warns(UserWarning, match="Some rows have tags that the scheme or the transitions forbid"):
        model.fit(INPUTS, wrong, verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_weights_have_initializers_regularizers_and_constraints():
    crf = kseq.layers.CRF(
        3,
        transitions_initializer=keras.initializers.Constant(2.0),
        boundary_initializer="ones",
        transitions_regularizer=keras.regularizers.L2(0.5),
        boundary_constraint="non_neg",
    )
    crf.build((None, None, 3))
    np.testing.assert_allclose(sum(crf.losses), 0.5 * 9 * 4.0)
    assert isinstance(crf.start.constraint, keras.constraints.NonNeg)
    again = kseq.layers.CRF.from_config(crf.get_config())
    again.build((None, None, 3))
    np.testing.assert_array_equal(again.transitions, np.full((3, 3), 2.0))


def test_the_loss_needs_the_layer():
    scores, tags, _ = scores_of_rows()
    with pytest.raises(ValueError, match=r"needs the output of a kseq\.layers\.CRF"):
        kseq.losses.CRF()(tags, scores)
    crf = built()
    np.testing.assert_allclose(crf.loss(tags, ops.convert_to_tensor(scores)), crf.loss(tags, crf(scores)), rtol=1e-6)
    other = built()
    assert float(other.loss(tags, crf(scores))) == float(crf.loss(tags, crf(scores)))  # that of the scores


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_tags": 0}, "CRF needs a positive int"),
        ({"names": NAMES}, "names are given without a scheme"),
        ({"scheme": "BIO"}, "needs the names of the tags"),
        ({"names": NAMES[:2], "scheme": "BIO"}, "names has 2 names, but num_tags=3"),
        ({"use_kernel": 1}, "use_kernel must be True or False"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        kseq.layers.CRF(**{"num_tags": 3, **options})


def test_a_layer_without_weights_and_scores_without_axes_are_refused():
    with pytest.raises(ValueError, match="has no transitions yet"):
        kseq.layers.CRF(3).decode(np.zeros((1, 2, 3)))
    with pytest.raises(ValueError, match="got a KerasTensor of a Functional model"):
        built().decode(keras.Input((None, 3)))
    with pytest.raises(ValueError, match=r"expected \(batch, time, tags\)"):
        built().decode(np.zeros((2, 3)))
