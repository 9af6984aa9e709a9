"""GradientMonitor and GradientNoise in `fit`."""

import csv

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.training import GradientMonitor, GradientNoise, load_batch
from tests.contracts.models import MAKERS, batch_of


class Log(keras.layers.Layer):
    """A logarithm, NaN for negative inputs."""

    def call(self, inputs):
        return ops.log(inputs)


def linear_model(optimizer, **options):
    """y = 2 x + b, whose gradient by hand is that of `data_and_norms`."""
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, name="first"), keras.layers.Dense(1, name="last")]
    )
    model.set_weights([np.array([[2.0]]), np.zeros(1), np.array([[3.0]]), np.zeros(1)])
    model.compile(optimizer, "mse", **options)
    return model


def norms_by_hand(inputs, labels):
    """Return the norms of both layers' gradients of mean (6 x - y) ** 2, by batches of one row."""
    error = 2.0 * (6.0 * inputs - labels)[:, 0]
    first = np.abs(error) * np.hypot(3.0 * inputs[:, 0], 3.0)
    last = np.abs(error) * np.hypot(2.0 * inputs[:, 0], 1.0)
    return first, last


INPUTS, LABELS = np.array([[1.0], [0.5], [-1.0], [0.1]], "float32"), np.array([[1.0], [1.0], [0.0], [0.5]], "float32")
NOT_LEARNING = 1e-12  # a learning rate at which the weights stay as they are


def fit(model, *callbacks, inputs=INPUTS, labels=LABELS, batch_size=1, epochs=1):
    history = model.fit(inputs, labels, batch_size, epochs, verbose=0, shuffle=False, callbacks=list(callbacks))
    return history.history


@pytest.mark.every_backend
@pytest.mark.parametrize("scaled", [False, pytest.param(True, marks=pytest.mark.long)])
def test_norms_are_those_by_hand_before_clipping(scaled, tmp_path):
    first, last = norms_by_hand(INPUTS, LABELS)
    whole = np.hypot(first, last)
    optimizer = keras.optimizers.SGD(NOT_LEARNING, global_clipnorm=float(np.sort(whole)[2]) - 0.1)
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer
    model = linear_model(optimizer, jit_compile=not scaled)
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    values = fit(model, GradientMonitor(), log, epochs=2)
    np.testing.assert_allclose(values["gradient/norm"], whole.mean(), rtol=1e-5)
    np.testing.assert_allclose(values["gradient/largest_norm"], whole.max(), rtol=1e-5)
    assert values["gradient/clipped"] == [0.5, 0.5]
    assert values["gradient/not_finite"] == [0.0, 0.0]
    layers = {name.rsplit("/", 1)[1]: value for name, value in values.items() if name.endswith(("/first", "/last"))}
    np.testing.assert_allclose(layers["first"], first.mean(), rtol=1e-5)
    np.testing.assert_allclose(layers["last"], last.mean(), rtol=1e-5)
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    np.testing.assert_allclose(float(rows[1]["gradient/norm"]), whole.mean(), rtol=1e-5)


@pytest.mark.long
@pytest.mark.every_backend
def test_accumulated_gradients_count_once_and_training_is_the_same():
    optimizers = [keras.optimizers.Adam(0.01, gradient_accumulation_steps=2, clipnorm=0.5) for _ in range(2)]
    watched, plain = (linear_model(each) for each in optimizers)
    values = fit(watched, GradientMonitor(), epochs=3)
    assert fit(plain, epochs=3)["loss"] == pytest.approx(values["loss"], rel=1e-6)
    np.testing.assert_allclose(watched.get_weights()[0], plain.get_weights()[0], rtol=1e-6)
    error = 2.0 * (6.0 * INPUTS - LABELS)[:, 0]
    parts = np.stack([error * 3 * INPUTS[:, 0], error * 3, error * 2 * INPUTS[:, 0], error], axis=1)
    first_update = np.linalg.norm(parts[:2].mean(axis=0))
    assert values["gradient/largest_norm"][0] == pytest.approx(first_update, rel=1e-5)
    assert values["gradient/clipped"] == [1.0, 1.0, 1.0]


@pytest.mark.long
@pytest.mark.every_backend
def test_optimizers_are_left_and_saved_as_they_were(tmp_path):
    model = linear_model(keras.optimizers.Adam(0.01))
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    fit(model, GradientMonitor(), GradientNoise(), checkpoint)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables) == 2 + 2 * 4
    for a, b in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
    assert not [name for name in vars(model.optimizer) if "kseq" in name or name == "_clip_gradients"]
    assert "gradient/norm" not in fit(model)


@pytest.mark.long_on_jax
@pytest.mark.parametrize("check_every", [pytest.param(1, marks=pytest.mark.long), 3])
def test_a_planted_nan_is_found_and_its_batch_is_kept(check_every, tmp_path, capsys):
    def make():
        layers = keras.layers.Dense(2), Log(name="log"), keras.layers.Dense(1, kernel_initializer="ones")
        model = keras.Sequential([keras.Input((2,)), *layers])
        model.layers[0].set_weights([np.eye(2), np.zeros(2)])
        model.compile(keras.optimizers.Adam(0.01), "mse")
        return model

    model, until_then = make(), make()
    inputs = np.full((8, 2), 1.0, "float32")
    inputs[5, 1] = -9.0  # in the third batch
    monitor = GradientMonitor(tmp_path, check_every=check_every)
    fit(model, monitor, inputs=inputs, labels=np.ones((8, 1)), batch_size=2, epochs=3)
    found = monitor.found
    assert found.source.endswith("log (Log)")
    assert found.source.startswith("output of ")
    assert found.detail == "NaN in row 1, first at (1, 1), although its inputs are finite."
    assert found.operation.lower().startswith(f"log, in call, {__file__}, line ")
    assert found.operation.endswith("return ops.log(inputs)")
    assert (found.epoch, found.step) == (0, 2)
    fit(until_then, inputs=inputs[:4], labels=np.ones((4, 1)), batch_size=2)
    for a, b in zip(model.get_weights(), until_then.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert str(found) in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["not_finite-1-3.npz"]
    x, y, sample_weight = load_batch(found.batch)
    np.testing.assert_array_equal(x, inputs[4:6])
    np.testing.assert_array_equal(y, np.ones((2, 1)))
    assert sample_weight is None


@pytest.mark.parametrize(
    ("inputs", "weight", "source", "detail"),
    [
        ([[1.0], [np.nan]], 1.0, "input x", "has NaN in row 1, first at (1, 0)."),
        ([[1.0], [1.0]], np.nan, "weight ", "has NaN before this step."),
        ([[1e20], [1.0]], 1.0, "loss", "is infinity, although the model's outputs are finite."),
    ],
)
def test_says_what_has_the_nan(inputs, weight, source, detail):
    model = linear_model("sgd")
    model.layers[0].set_weights([np.array([[weight]]), np.zeros(1)])
    monitor = GradientMonitor()
    fit(model, monitor, inputs=np.array(inputs, "float32"), labels=np.zeros((2, 1)), batch_size=2)
    assert monitor.found.source.startswith(source)
    assert monitor.found.detail == detail
    assert monitor.found.batch is None


class Root(keras.layers.Layer):
    """A square root at 0, whose derivative is infinite."""

    def call(self, inputs):
        return ops.sqrt(0.0 * inputs)


@pytest.mark.long_on_jax
def test_says_which_operation_gave_the_nan_of_losses_and_gradients():
    def loss(labels, outputs):
        return ops.mean(ops.log(outputs - labels))

    def operation(layer, function):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1), layer])
        model.compile("sgd", function, run_eagerly=True)
        monitor = GradientMonitor()
        fit(model, monitor, inputs=INPUTS[:1], labels=np.full((1, 1), 99.0))
        return monitor.found.source, monitor.found.operation

    source, of_loss = operation(keras.layers.Activation("linear"), loss)
    assert source == "loss"
    assert of_loss.lower().startswith("log, in loss, ")
    source, of_gradient = operation(Root(), "mse")
    assert source == "gradient"
    assert of_gradient.startswith("infinity by ")
    assert "; NaN by " in of_gradient
    if keras.backend.backend() == "tensorflow":
        assert of_gradient.startswith("infinity by SqrtGrad")


@pytest.mark.long
def test_training_goes_on_if_told_to():
    inputs = INPUTS.copy()
    inputs[1] = np.nan
    monitor = GradientMonitor(stop=False)
    values = fit(linear_model(keras.optimizers.SGD(NOT_LEARNING)), monitor, inputs=inputs, epochs=2)
    assert values["gradient/not_finite"] == [1.0, 1.0]
    whole = np.hypot(*norms_by_hand(INPUTS[[0, 2, 3]], LABELS[[0, 2, 3]]))
    np.testing.assert_allclose(values["gradient/norm"], whole.mean(), rtol=1e-5)
    with pytest.raises(ValueError, match="check_every=0"):
        GradientMonitor(check_every=0)


def test_a_moving_average_does_not_learn_from_the_examination():
    model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization(), Log(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    monitor = GradientMonitor(stop=False)
    fit(model, monitor, batch_size=4)
    before = model.layers[0].moving_mean.numpy()
    np.testing.assert_allclose(before, 0.01 * INPUTS.mean(axis=0), rtol=1e-4)  # one update, by the step itself


@pytest.mark.long
@pytest.mark.every_backend
def test_noise_has_the_variance_of_the_paper_and_a_seed():
    def change(seed, updates=1):
        model = keras.Sequential(
            [keras.Input((40,)), keras.layers.Dense(60, use_bias=False, kernel_initializer="zeros")]
        )
        model.compile(keras.optimizers.SGD(1.0), "mse")
        noise = GradientNoise(eta=0.3, gamma=0.55, seed=seed)
        zeros = np.zeros((updates, 40), "float32")  # whose gradient is zero
        fit(model, noise, inputs=zeros, labels=np.zeros((updates, 60)))
        return model.get_weights()[0]

    first = change(seed=1)
    np.testing.assert_allclose(first.std(), np.sqrt(0.3), rtol=0.05)
    np.testing.assert_allclose(first.mean(), 0.0, atol=0.05)
    np.testing.assert_array_equal(first, change(seed=1))
    second = change(seed=1, updates=2) - first
    np.testing.assert_allclose(second.std(), np.sqrt(0.3 / 2**0.55), rtol=0.05)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.1
    assert not np.allclose(first, change(seed=2))


def test_noise_refuses_numbers_out_of_range():
    with pytest.raises(ValueError, match=r"eta=0\.0 must be above 0"):
        GradientNoise(0.0)


def kinds():
    """Return the names of all models; only those of different training steps are not slow."""
    quick = ("Seq2Seq", "CTCRecognizer", "LanguageModel", "Forecaster")
    return [pytest.param(name, marks=pytest.mark.long if name in quick else pytest.mark.slow) for name in MAKERS]


@pytest.mark.parametrize("name", kinds())
def test_every_model_is_watched(name):
    model = MAKERS[name]()
    model.compile("sgd", jit_compile=False)
    rows = batch_of(model, name)
    with kseq.config.jit_compile_scope(False):
        values = model.fit(rows, batch_size=2, verbose=0, callbacks=[GradientMonitor()]).history
    assert values["gradient/norm"][0] > 0
    assert values["gradient/not_finite"] == [0.0]
