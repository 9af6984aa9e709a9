"""The contract of models: padding, rows, precision, compilation, saving, wrong rows, and a step of training."""

import inspect
import json

import keras
import numpy as np
import pytest

import kseq
from kseq.models.sequence_model import SequenceModel
from tests.contracts.models import MAKERS, batch_of
from tests.support import BACKEND, compiled

KEPT = {}  # models that no test changes, by name


def built(name):
    keras.utils.set_random_seed(7)
    model = MAKERS[name]()
    model.build()
    random = np.random.default_rng(1)
    model.set_weights([0.7 * random.normal(size=weight.shape) for weight in model.get_weights()])
    return model


ON_JAX = ("Tagger, CRF", "SequenceClassifier", "SequenceClassifier, labels")  # no other tests train them there


@pytest.fixture(params=MAKERS)
def name(request):
    return request.param


@pytest.fixture
def model(name):
    """A model for tests that do not change it."""
    return KEPT.setdefault(name, built(name))


@pytest.fixture
def batch(model, name):
    return batch_of(model, name)


def outputs(model, batch):
    """Return the outputs, and which of them are real."""
    values, mask = np.asarray(model(batch)), model.compute_mask(batch)
    return values, np.ones(values.shape[:1], bool) if mask is None else np.asarray(mask)


def with_other_padding(model, batch, more=0):
    """Return inputs whose padding has ids outside the vocabulary or NaN, and `more` steps."""
    other, real_words = dict(batch), np.zeros(())
    for name, told in model.names.lengths.items():
        if name not in batch or name == model.names.y:
            continue
        values, lengths = batch[name], batch[told]
        inner = values.ndim == 3 and lengths.ndim == 2
        wide = [(0, 0), (0, more), *([(0, more)] * inner), *([(0, 0)] * (values.ndim - 2 - inner))]
        real = np.arange(values.shape[lengths.ndim] + more) < np.pad(lengths, wide[: lengths.ndim])[..., None]
        padding = np.full(real.shape, np.nan if values.dtype.kind == "f" else -7, values.dtype)
        if inner:  # words beyond a row's length have characters, which are ids
            real = real & real_words[..., None]
            other[told] = np.where(real_words, np.pad(lengths, wide[:2]), 3).astype("int32")
            padding[~real_words] = 5
        else:
            real_words = real
        shape = (*real.shape, *[1] * (values.ndim - real.ndim))
        other[name] = np.where(real.reshape(shape), np.pad(values, wide), padding.reshape(shape))
        for aligned, of in model.names.aligned.items():
            if of == name and aligned in batch and batch[aligned].dtype.kind == "f":
                features = np.pad(batch[aligned], [*wide[:2], (0, 0)])
                other[aligned] = np.where(real[..., None], features, np.float32(np.nan))
    return other


def test_every_model_has_an_instance():
    classes = [getattr(kseq.models, name) for name in kseq.models.__all__]
    trained = {each for each in classes if inspect.isclass(each) and issubclass(each, SequenceModel)}
    assert {type(make()) for make in MAKERS.values()} == trained


@pytest.mark.mostly_long("Seq2Seq", "CTCRecognizer", "LanguageModel", "Tagger, CRF", "SequenceClassifier", "Forecaster")
@pytest.mark.parametrize("more", [0, 3])
def test_padding_never_changes_an_answer(model, batch, more):
    values, real = outputs(model, batch)
    other = np.asarray(model(with_other_padding(model, batch, more)))
    other = other[:, : real.shape[1]] if real.ndim > 1 else other
    np.testing.assert_allclose(other[real], values[real], atol=1e-5)
    assert np.isfinite(values[real]).all()


@pytest.mark.mostly_long("Seq2Seq, pictures", "SequenceClassifier, every step", "Forecaster, labels")
def test_a_row_alone_and_compiled_equals_the_row_in_its_batch(model, batch):
    values, real = outputs(model, batch)
    run = compiled(lambda inputs: model(inputs))
    for row in (0, 1, 2):
        alone = np.asarray(run({key: value[row : row + 1] for key, value in batch.items()}))[0]
        np.testing.assert_allclose(alone[real[row]], values[row][real[row]], atol=1e-5)


@pytest.mark.long
def test_half_precision_is_inside_alone(name, model, batch):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = built(name)
    finally:
        keras.config.set_dtype_policy("float32")
    values, real = outputs(model, batch)
    got, _ = outputs(half, batch)
    assert got.dtype == np.float32
    scale = np.abs(values[real]).max()
    assert 0 < np.abs(got[real] - values[real]).max() < 0.1 * scale
    half.compile("adam", run_eagerly=True)
    assert np.isfinite(half.train_on_batch(batch)).all()


@pytest.mark.long
def test_saves_and_loads_with_its_compilation(name, batch, tmp_path):
    model = built(name)
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    model.train_on_batch(batch)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(batch), model(batch))
    assert json.dumps(loaded.get_config(), sort_keys=True) == json.dumps(model.get_config(), sort_keys=True)
    np.testing.assert_allclose(loaded.evaluate(batch, verbose=0), model.evaluate(batch, verbose=0), rtol=1e-6)
    assert np.isfinite(loaded.train_on_batch(batch)).all()


@pytest.mark.long
@pytest.mark.every_backend
def test_fit_makes_a_step_that_lowers_the_loss(name):
    if BACKEND == "jax" and name not in ON_JAX:
        pytest.skip("on JAX this model is trained by its own tests")
    model = built(name)
    batch = batch_of(model, name)
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=BACKEND == "tensorflow")
    before = np.ravel(model.test_on_batch(batch))[0]  # with or without metrics
    history = model.fit(batch, epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert np.ravel(model.test_on_batch(batch))[0] < before


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Some labels are no class of the logits:UserWarning")  # of CTC
@pytest.mark.filterwarnings("ignore:Some tags are not between:UserWarning")  # of a CRF
def test_a_wrong_row_is_told_by_the_loss_and_moves_no_weight(name, model, batch):
    """In a compiled step the loss is NaN, of CTC inf, and the gradients are those of the other rows."""
    import tensorflow as tf

    model.compile("sgd")

    @tf.function
    def step(inputs, weights):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(inputs, None, model(inputs, training=False), weights)
        gradients = tape.gradient(loss, model.trainable_variables)
        return loss, tf.concat([tf.reshape(tf.convert_to_tensor(each), [-1]) for each in gradients], 0)

    def run(inputs, weights):
        loss, gradients = step({key: tf.constant(value) for key, value in inputs.items()}, tf.constant(weights))
        return loss, gradients / np.linalg.norm(gradients)  # the mean counts a wrong row, so the norms differ

    _, expected = run(batch, [1.0, 0.0, 1.0, 1.0])
    for place in (model.names.lengths.get(model.names.x, model.names.x), model.names.y):
        other = {**batch, place: batch[place].copy()}
        other[place][1] = np.inf if other[place].dtype.kind == "f" else 99
        loss, gradients = run(other, [1.0] * 4)
        assert not np.isfinite(loss), place
        if name == "Seq2Seq, objectives":  # a wrong row changes the shares of several means in the whole gradient
            assert np.isfinite(gradients).all()
            continue
        np.testing.assert_allclose(gradients, expected, atol=1e-5, err_msg=place)
