"""The CTC loss, compared with enumeration, finite differences, TensorFlow and optax; and wrong input."""

import functools

import numpy as np
import pytest
from keras import ops

import kseq
from tests.alignment.cases import PRECISION, TOLERANCE, enumerated, random_batch
from tests.reference import alignment as reference
from tests.support import BACKEND, compiled

WRAPS = [lambda f: f, compiled]
EAGER_OR_COMPILED = pytest.mark.parametrize("wrap", WRAPS, ids=["eager", "compiled"])


@functools.cache
def losses_and_gradient(wrap, **options):
    """Return `(weights, labels, logits, *lengths) -> (losses, d_logits)`, traced once per shape and options."""

    def both(weights, labels, logits, *lengths):
        if BACKEND == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(logits)
                losses = kseq.ctc_loss(labels, logits, *lengths, **options)
                total = tf.reduce_sum(losses * tf.cast(weights, losses.dtype))
            return losses, tape.gradient(total, logits)
        import jax

        def total(logits):
            losses = kseq.ctc_loss(labels, logits, *lengths, **options)
            return ops.sum(losses * ops.cast(weights, losses.dtype)), losses

        d_logits, losses = jax.grad(total, has_aux=True)(logits)
        return losses, d_logits

    return wrap(both)


def value_and_gradient(labels, logits, *lengths, weights=1.0, wrap=compiled, **options):
    """Return the losses, and the gradient of their weighted sum with respect to the logits."""
    weights = np.broadcast_to(np.float32(weights), len(labels))
    tensors = [ops.convert_to_tensor(x) for x in (weights, labels, logits, *lengths)]
    return tuple(np.asarray(x) for x in losses_and_gradient(wrap, **options)(*tensors))


@pytest.mark.long
@pytest.mark.every_backend
def test_equals_the_enumeration_of_every_alignment():
    blank = 2
    (labels, logits, *lengths), alignments = enumerated(blank)
    weights = np.linspace(-1.0, 1.0, len(labels), dtype="float32")
    losses, d_logits = value_and_gradient(labels, logits, *lengths, weights=weights, blank_index=blank)
    assert losses.dtype == PRECISION
    expected = [-reference.log_probability(each) for each in alignments]
    np.testing.assert_allclose(losses, expected, rtol=TOLERANCE, atol=TOLERANCE)
    for row, (length, frames) in enumerate(zip(*lengths, strict=True)):
        want = np.zeros_like(d_logits[row])
        if alignments[row]:
            want[:frames] = reference.gradient(labels[row, :length].tolist(), logits[row, :frames], blank)
            want *= weights[row]
        np.testing.assert_allclose(d_logits[row], want, atol=TOLERANCE, err_msg=f"row {row}")


@pytest.mark.long
def test_equals_optax_in_float64_at_a_thousand_frames():
    blank = 5
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    labels, logits, label_lengths, logit_lengths = random_batch(4, 1000, 12, 90, seed=2, scale=2.0, blank=blank)
    losses, d_logits = value_and_gradient(labels, logits, label_lengths, logit_lengths, blank_index=blank)
    frames = (np.arange(1000) >= logit_lengths[:, None]).astype("float64")
    places = (np.arange(90) >= label_lengths[:, None]).astype("float64")
    labels = np.where(places == 0, labels, 0)

    def total(logits):
        each = optax.ctc_loss(logits, frames, labels, places, blank_id=blank, log_epsilon=-1e9)
        return each.sum(), each

    with jax.enable_x64(True):  # in float32 its gradient is off by 1e-3
        d_expected, expected = jax.jit(jax.grad(total, has_aux=True))(np.nan_to_num(logits).astype("float64"))
        d_expected, expected = np.asarray(d_expected), np.asarray(expected)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    np.testing.assert_allclose(d_logits, d_expected, atol=1e-5)


@pytest.mark.long
def test_float32_stays_exact_over_thousands_of_frames():
    """Compared with float64 on TensorFlow, which the test against enumeration has verified."""
    batch = random_batch(2, 4000, 6, 900, seed=4, scale=5.0)
    losses, d_logits = value_and_gradient(*batch)
    labels, logits, *lengths = batch
    exact, d_exact = value_and_gradient(labels, logits.astype("float64"), *lengths)
    np.testing.assert_allclose(losses, exact, rtol=1e-6)
    np.testing.assert_allclose(d_logits, d_exact, atol=1e-5)


@pytest.mark.long
def test_graphs_equal_compiled():
    import tensorflow as tf

    batch = random_batch(4, 50, 6, 9, seed=3)
    losses, d_logits = value_and_gradient(*batch)
    spec = [tf.TensorSpec([None] * x.ndim if x.ndim < 3 else [None, None, 6], x.dtype) for x in batch]
    spec.insert(0, tf.TensorSpec([None]))  # the weights
    got, d_got = value_and_gradient(*batch, wrap=lambda f: tf.function(f, input_signature=spec))
    np.testing.assert_allclose(got, losses, rtol=1e-6)
    np.testing.assert_allclose(d_got, d_logits, atol=2e-6)  # another order of rounding, over 50 frames


@pytest.mark.long
def test_eager_equals_compiled():
    labels, logits, *lengths = random_batch(4, 20, 6, 5, seed=3)
    losses, d_logits = value_and_gradient(labels, logits, *lengths)
    got, d_got = value_and_gradient(labels, logits, *lengths, wrap=lambda f: f)
    np.testing.assert_allclose(got, losses, rtol=1e-6)
    np.testing.assert_allclose(d_got, d_logits, atol=1e-6)


@pytest.mark.long
def test_a_row_alone_equals_the_row_in_a_batch():
    labels, logits, label_lengths, logit_lengths = random_batch(3, 30, 6, 5, seed=1)
    losses, d_logits = value_and_gradient(labels, logits, label_lengths, logit_lengths)
    for row in range(3):
        count, frames = label_lengths[row], logit_lengths[row]
        alone, d_alone = value_and_gradient(
            labels[row : row + 1, :count], logits[row : row + 1, :frames], np.array([count]), np.array([frames]),
            wrap=WRAPS[0],
        )  # fmt: skip
        np.testing.assert_allclose(losses[row], alone[0], rtol=1e-6)
        np.testing.assert_allclose(d_logits[row, :frames], d_alone[0], atol=1e-6)
        assert (d_logits[row, frames:] == 0).all()


@pytest.mark.long
@pytest.mark.every_backend
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_computed_in_float32(dtype):
    labels, logits, *lengths = random_batch(4, 20, 6, 5, unequal=False)
    half = ops.cast(logits, dtype)
    losses, d_logits = value_and_gradient(labels, ops.cast(half, "float32"), *lengths)
    got, d_half = value_and_gradient(labels, half, *lengths)
    assert got.dtype == "float32"
    np.testing.assert_allclose(got, losses, rtol=1e-6)
    assert d_half.dtype == dtype
    np.testing.assert_allclose(d_half.astype("float32"), d_logits, atol=2.0**-8)  # values up to 1, rounded to 8 bits


INFEASIBLE = np.array([[1, 1], [1, 2], [1, 2]]), np.zeros((3, 3, 3), "float32"), np.array([2] * 3), np.array([2, 1, 3])


@pytest.mark.long
@EAGER_OR_COMPILED
@pytest.mark.parametrize(("infeasible", "value"), [("inf", np.inf), ("zero", 0.0)])
def test_infeasible_rows(wrap, infeasible, value):
    losses, d_logits = value_and_gradient(*INFEASIBLE, infeasible=infeasible, wrap=wrap)
    expected = -np.log(5 / 27)  # 112, 122, _12, 1_2, 12_
    np.testing.assert_allclose(losses, [value, value, expected], rtol=1e-6)
    assert (d_logits[:2] == 0).all()
    assert np.abs(d_logits[2]).max() > 0.1
    assert np.isfinite(d_logits).all()


@pytest.mark.long
def test_labels_in_the_padding_may_be_anything_and_logits_too():
    labels, logits, label_lengths, logit_lengths = random_batch(4, 20, 6, 5, seed=8)
    assert label_lengths.min() < 5
    assert logit_lengths.min() < 20
    clean = np.where(np.arange(5) < label_lengths[:, None], labels, 0)
    expected, d_expected = value_and_gradient(clean, np.nan_to_num(logits), label_lengths, logit_lengths)
    for padding in (-1, 10**6, 0):
        padded = np.where(np.arange(5) < label_lengths[:, None], labels, padding)
        losses, d_logits = value_and_gradient(padded, logits, label_lengths, logit_lengths, wrap=WRAPS[padding != 0])
        np.testing.assert_allclose(losses, expected, rtol=1e-6)
        np.testing.assert_allclose(d_logits, d_expected, atol=1e-6)


def wrong(kind):
    """Return a batch of three rows, of which the middle one is wrong."""
    labels, logits, label_lengths, logit_lengths = random_batch(3, 12, 5, 4, unequal=False)
    if kind == "nan":
        logits[1, 7, 2] = np.nan
    elif kind == "inf":
        logits[1, 7, 2] = np.inf
    elif kind == "label_length":
        label_lengths[1] = 5
    elif kind == "logit_length":
        logit_lengths[1] = 13
    elif kind == "negative_length":
        logit_lengths[1] = -1
    else:
        labels[1, 2] = {"too_large": 5, "negative": -1, "blank": 0}[kind]
    return labels, logits, label_lengths, logit_lengths


WRONG = {
    "nan": "Row 1, frame 7: the logits have NaN",
    "inf": "Row 1, frame 7: the logits have NaN or",
    "label_length": r"Row 1: label_length=5, but there are 4 places \(max_labels\)",
    "logit_length": r"Row 1: logit_length=13, but there are 12 places \(time\)",
    "negative_length": r"Row 1: logit_length=-1, but there are 12 places",
    "too_large": "Row 1, place 2: label 5, but the logits have 5 classes: expected 0 to 4",
    "negative": "Row 1, place 2: label -1, but the logits have 5 classes",
    "blank": r"Row 1, place 2: label 0 is the blank \(blank_index=0\)",
}


@pytest.mark.every_backend
@pytest.mark.parametrize("kind", WRONG)
def test_wrong_values_are_said_where_they_are_known(kind):
    with pytest.raises(ValueError, match=WRONG[kind]):
        kseq.ctc_loss(*wrong(kind))


@pytest.mark.long
def test_a_wrong_row_touches_no_other():
    expected, d_expected = value_and_gradient(*random_batch(3, 12, 5, 4, unequal=False))
    for kind in WRONG:
        losses, d_logits = value_and_gradient(*wrong(kind))
        np.testing.assert_array_equal(losses[[0, 2]], expected[[0, 2]], err_msg=kind)
        np.testing.assert_array_equal(d_logits[[0, 2]], d_expected[[0, 2]], err_msg=kind)
        if kind in ("nan", "inf"):
            assert np.isnan(losses[1]), kind
            assert np.isnan(d_logits[1]).all(), kind
        else:
            assert losses[1] == np.inf, kind
            assert (d_logits[1] == 0).all(), kind


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: np.ones((2, 4), "int32")}, r"The shapes are labels \(2, 4\), logits \(3, 12, 5\)"),
        ({1: np.zeros((3, 12), "float32")}, r"expected labels \(batch, max_labels\), logits \(batch, time, classes\)"),
        ({0: np.ones((3, 4), "float32")}, "labels have dtype float32, but they must be integers"),
        ({3: np.ones(3, "float32")}, "logit_lengths have dtype float32"),
    ],
)
def test_wrong_shapes_and_dtypes(change, message):
    batch = [change.get(index, x) for index, x in enumerate(random_batch(3, 12, 5, 4, unequal=False))]
    for wrap in WRAPS:
        with pytest.raises(ValueError, match=message):
            wrap(kseq.ctc_loss)(*batch)


def test_wrong_options():
    batch = random_batch(3, 12, 5, 4, unequal=False)
    with pytest.raises(ValueError, match="infeasible='nan', expected one of"):
        kseq.ctc_loss(*batch, infeasible="nan")
    with pytest.raises(ValueError, match="blank_index=5, but the logits have 5 classes: expected -5 to 4"):
        kseq.ctc_loss(*batch, blank_index=5)


@pytest.mark.long
@pytest.mark.every_backend
def test_the_gradients_gradient_is_never_silently_wrong():
    """Without protection it would be wrong: the loss splits floats into mantissas and exponents by bit operations."""
    labels, lengths = np.array([[1, 2]]), (np.array([2]), np.array([4]))
    logits = np.random.default_rng(0).normal(size=(1, 4, 3)).astype("float32")

    def loss(logits):
        return ops.sum(kseq.ctc_loss(labels, logits, *lengths))

    if BACKEND == "jax":
        import jax

        for second in (jax.hessian(loss), jax.grad(lambda x: ops.sum(jax.grad(loss)(x) ** 2))):
            with pytest.raises(NotImplementedError, match="has no gradient of its own"):
                jax.jit(second)(logits)
        return
    import tensorflow as tf

    def second(logits, loss=loss):
        with tf.GradientTape() as outer:
            outer.watch(logits)
            with tf.GradientTape() as inner:
                inner.watch(logits)
                value = loss(logits)
            first = inner.gradient(value, logits)
            penalty = tf.reduce_sum(first**2)
        return first, outer.gradient(penalty, logits)

    with pytest.raises(NotImplementedError, match="has no gradient of its own"):
        second(tf.constant(logits))
    warns = functools.partial(pytest.warns, UserWarning, match="no gradient of its own. Compiled by XLA, .* NaN")
    with warns(), pytest.raises(tf.errors.InvalidArgumentError, match="has no gradient of its own"):
        tf.function(second)(tf.constant(logits))
    with warns():
        first, nan = tf.function(second, jit_compile=True)(tf.constant(logits))
    assert np.isnan(nan).all()
    # A second, outer tape changes nothing, but has TensorFlow build a gradient that nobody asked for.
    with warns(), tf.GradientTape(persistent=True) as outer:
        tensor = tf.constant(logits)
        outer.watch(tensor)
        with tf.GradientTape() as inner:
            inner.watch(tensor)
            value = tf.function(loss)(tensor)
        np.testing.assert_allclose(inner.gradient(value, tensor), first, atol=1e-6)
