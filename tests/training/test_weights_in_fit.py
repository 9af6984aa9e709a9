"""Callbacks that change weights or their updates in `fit`: noise, rates of parts, averages."""

from functools import partial

import keras
import numpy as np
import pytest

import kseq
from kseq.training import GradientMonitor, GradientNoise, LearningRates, StochasticWeightAveraging, WeightNoise
from kseq.training.gradient_noise import normal_noise

RANDOM = np.random.default_rng(4)
INPUTS, LABELS = RANDOM.normal(size=(8, 3)).astype("float32"), RANDOM.normal(size=(8, 2)).astype("float32")


def network(optimizer, **options):
    """Return two layers, "first" and "last", whose weights are the same each time."""
    layers = [keras.layers.Dense(4, "tanh", name="first"), keras.layers.Dense(2, name="last")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    random = np.random.default_rng(5)
    model.set_weights([0.5 * random.normal(size=each.shape) for each in model.get_weights()])
    model.compile(optimizer, "mse", **options)
    return model


def fit(model, *callbacks, epochs=1, batch_size=4, **options):
    options = {"shuffle": False, "verbose": 0, **options}
    return model.fit(INPUTS, LABELS, batch_size, epochs, callbacks=list(callbacks), **options)


def two_optimizers(makers, steps):
    """Return the weights that two optimizers give the two layers, each with the gradients of its own."""
    model = network("sgd")
    parts = [each.trainable_variables for each in model.layers]
    optimizers = [make() for make in makers]
    for optimizer, variables in zip(optimizers, parts, strict=True):
        optimizer.build(variables)
    for step in range(steps):
        rows = slice(4 * (step % 2), 4 * (step % 2) + 4)
        x, y = INPUTS[rows].astype("float64"), LABELS[rows]
        w, b, v, c = (np.array(each, "float64") for each in model.trainable_variables)
        hidden = np.tanh(x @ w + b)
        error = 2.0 * (hidden @ v + c - y) / y.size
        back = error @ v.T * (1 - hidden**2)
        gradients = [[x.T @ back, back.sum(axis=0)], [hidden.T @ error, error.sum(axis=0)]]
        for optimizer, variables, of in zip(optimizers, parts, gradients, strict=True):
            optimizer.apply([keras.ops.convert_to_tensor(each, "float32") for each in of], variables)
    return model.get_weights()


def assert_equal(weights, expected, rtol=1e-4):
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-5)


MADE = {
    "AdamW": lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.3),
    "SGD": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "Nadam": lambda rate: keras.optimizers.Nadam(rate),
    "Muon": lambda rate: keras.optimizers.Muon(rate, weight_decay=0.2),
}


@pytest.mark.long_on_jax
@pytest.mark.parametrize(
    ("name", "compiled"), [("AdamW", False), *(pytest.param(name, True, marks=pytest.mark.long) for name in MADE)]
)
def test_rates_of_parts_are_those_of_two_optimizers(name, compiled):
    expected = two_optimizers([lambda: MADE[name](0.002), lambda: MADE[name](0.02)], steps=4)
    model = network(MADE[name](0.02), jit_compile=compiled)
    fit(model, LearningRates({"first": 0.1}), epochs=2)
    assert_equal(model.get_weights(), expected)


@pytest.mark.long
@pytest.mark.every_backend
def test_rates_go_with_scaled_losses_clipping_monitors_and_schedules():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.02, 2, 0.5)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(schedule, global_clipnorm=0.1))
    model, plain = network(optimizer), network(keras.optimizers.Adam(schedule, global_clipnorm=0.1))
    values = fit(model, LearningRates({model.layers[0]: 0.0}), GradientMonitor(), epochs=2).history
    assert values["gradient/clipped"][0] > 0
    before = network("sgd").get_weights()
    assert_equal(model.get_weights()[:2], before[:2], rtol=0)
    fit(plain)
    one_epoch = network(keras.optimizers.Adam(schedule, global_clipnorm=0.1))
    fit(one_epoch, LearningRates({"first": 1.0}))
    assert_equal(one_epoch.get_weights(), plain.get_weights())


def test_a_part_inside_of_a_part_has_its_own_factor():
    model = kseq.models.Tagger(kseq.models.Encoder(9, 3, kseq.cells.GRUCell(2)), 3)
    model.build()
    from kseq.training.model_parts import by_smallest_part

    values = by_smallest_part(model, {"encoder.embedding": 2.0, "encoder": 1.0, model.to_logits: 3.0})
    found = {each.path.split("/", 1)[1]: values[id(each)] for each in model.trainable_variables}
    assert {name: value for name, value in found.items() if value != 1.0} == {
        next(name for name in found if "embedding" in name): 2.0,
        **{name: 3.0 for name in found if "dense" in name},
    }
    for parts, message in (
        ({"decoder": 1.0}, r"'decoder' is no part of the model: .* has no 'decoder', but \["),
        ({"encoder": 1.0, model.encoder: 2.0}, r"share \d+ weights, and none is a part of the other"),
        ({"unit_dropout": 1.0}, "has no trainable weights in the model"),
    ):
        with pytest.raises(ValueError, match=message):
            by_smallest_part(model, parts)
    for wrong, message in (({}, "must name parts"), ({"encoder": -1.0}, "at least 0"), ("encoder", "must name parts")):
        with pytest.raises(ValueError, match=message):
            LearningRates(wrong)


def _numbers(place, weight, step):
    return normal_noise(keras.ops.shape(weight), 3, -1 - place, step)


@pytest.mark.long
@pytest.mark.long_on_jax
@pytest.mark.parametrize("kind", ["plain", "xla", "scaled"])
def test_noise_is_in_the_gradient_alone(kind):
    """Two steps of noise equal two steps of gradients taken by hand at noisy weights."""
    optimizer = keras.optimizers.SGD(0.1)
    optimizer = keras.optimizers.LossScaleOptimizer(optimizer) if kind == "scaled" else optimizer
    model = network(optimizer, jit_compile=kind == "xla")
    fit(model, WeightNoise(0.3, seed=3, parts=["last"]), validation_data=(INPUTS, LABELS))
    weights = network("sgd").get_weights()
    for step in range(2):
        other = network(keras.optimizers.SGD(0.1))
        noise = [np.zeros_like(each) for each in weights]
        for place in (2, 3):
            draw = partial(_numbers, place)
            draw = kseq.backend.compiled(draw) if kind == "xla" else draw  # XLA draws others on TensorFlow
            drawn = draw(keras.ops.convert_to_tensor(weights[place]), keras.ops.convert_to_tensor(step))
            noise[place] = 0.3 * keras.ops.convert_to_numpy(drawn)
        noisy = [a + b for a, b in zip(weights, noise, strict=True)]
        other.set_weights(noisy)
        other.train_on_batch(INPUTS[4 * step : 4 * step + 4], LABELS[4 * step : 4 * step + 4])
        weights = [w + (a - b) for w, a, b in zip(weights, other.get_weights(), noisy, strict=True)]
    assert_equal(model.get_weights(), weights)


@pytest.mark.long
@pytest.mark.every_backend
def test_noise_is_new_in_each_step_and_repeated_by_its_seed():
    first, again, other = (network(keras.optimizers.SGD(0.1)) for _ in range(3))
    for model, seed in ((first, 1), (again, 1), (other, 2)):
        fit(model, WeightNoise(0.3, seed=seed), GradientNoise(1e-6, seed=1))
    assert_equal(first.get_weights(), again.get_weights(), rtol=1e-6)
    assert not np.allclose(first.get_weights()[0], other.get_weights()[0])
    one, two = (np.array(normal_noise((4,), 1, -1, np.int32(step))) for step in (0, 1))
    assert not np.allclose(one, two)
    with pytest.raises(ValueError, match=r"stddev=0\.0 must be above 0"):
        WeightNoise(0.0)
    with pytest.raises(ValueError, match="parts='last' must name parts"):
        WeightNoise(parts="last")


class Recorder(keras.callbacks.Callback):
    """Records the weights after each epoch, and raises an error in a step."""

    def __init__(self, stop=None):
        super().__init__()
        self.weights, self.stop = [], stop

    def on_train_batch_begin(self, batch, logs=None):
        if batch == self.stop:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())


@pytest.mark.long
@pytest.mark.long_on_jax
def test_a_fit_that_fails_leaves_nothing_behind(tmp_path):
    model, plain = (network(keras.optimizers.Adam(0.01)) for _ in range(2))
    every = [GradientMonitor(), GradientNoise(1.0), LearningRates({"first": 0.5}), WeightNoise(0.5)]
    own, count = set(vars(model.optimizer)), len(model.optimizer.variables)
    with pytest.raises(KeyboardInterrupt):
        fit(model, *every, Recorder(stop=1))
    assert {name for name in vars(model.optimizer) if "kseq" in name or callable(vars(model.optimizer)[name])} <= own
    if model.optimizer.built and count > 2:
        assert len(model.optimizer.variables) == count
    model.save(tmp_path / "model.keras")
    keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, plain):
        each.set_weights(network("sgd").get_weights())
        each.optimizer.build(each.trainable_variables) if not each.optimizer.built else None
        for variable in each.optimizer.variables:
            if "learning_rate" not in variable.path:
                variable.assign(np.zeros(variable.shape))
        assert "gradient/norm" not in fit(each).history
    assert_equal(model.get_weights(), plain.get_weights(), rtol=1e-6)
    assert "make_train_function" not in vars(model)


@pytest.mark.long
@pytest.mark.every_backend
def test_weights_are_averaged_from_an_epoch_on(tmp_path):
    before, after = Recorder(), Recorder()
    model = network(keras.optimizers.SGD(0.3))
    averaging = StochasticWeightAveraging(1, every=2)
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "epoch-{epoch}.weights.h5", save_weights_only=True)
    data = (INPUTS, LABELS)
    history = fit(model, averaging, after, checkpoint, before, epochs=5, validation_data=data).history
    plain = network(keras.optimizers.SGD(0.3))
    trained = Recorder()
    fit(plain, trained, epochs=5)
    epochs = trained.weights
    assert_equal(after.weights[0], epochs[0])
    assert_equal(after.weights[2], epochs[1])  # the mean of one epoch, while training goes on from others
    mean = [(a + b) / 2 for a, b in zip(epochs[1], epochs[3], strict=True)]
    assert_equal(model.get_weights(), mean)
    assert averaging.count == 2
    np.testing.assert_allclose(history["val_loss"][-1], model.evaluate(*data, verbose=0), rtol=1e-5)
    loaded = network("sgd")
    loaded.load_weights(tmp_path / "epoch-5.weights.h5")
    assert_equal(loaded.get_weights(), mean)


def test_averaging_refuses_what_it_cannot_do():
    model = network(keras.optimizers.SGD(0.1, use_ema=True))
    with pytest.raises(ValueError, match="use_ema=True, a mean of its own"):
        fit(model, StochasticWeightAveraging(0))
    for options, message in (((-1,), "start_epoch=-1"), ((1.5,), "start_epoch must be a whole number")):
        with pytest.raises(ValueError, match=message):
            StochasticWeightAveraging(*options)
    optimizers = keras.optimizers.OptimizerMap(keras.optimizers.SGD(), {"first/.*": keras.optimizers.Adam()})
    model = network(keras.optimizers.MultiOptimizer(optimizers))
    for callback in (GradientMonitor(), LearningRates({"first": 0.1})):
        with pytest.raises(ValueError, match=r"Compile it with one optimizer; kseq\.training\.LearningRates"):
            fit(model, callback)


@pytest.mark.long
@pytest.mark.every_backend
def test_a_moving_average_is_what_checkpoints_and_exports_see(tmp_path):
    model = network(keras.optimizers.SGD(0.3, use_ema=True, ema_momentum=0.9))
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True, monitor="val_loss")
    seen = Recorder()
    history = fit(model, swap, checkpoint, seen, epochs=4, validation_data=(INPUTS, LABELS)).history
    plain, trained = network(keras.optimizers.SGD(0.3)), []
    record = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: trained.append(plain.get_weights()))
    if keras.backend.backend() == "tensorflow":
        fit(plain, record, epochs=4)
        mean = trained[0]
        for weights in trained[1:]:
            mean = [0.9 * a + 0.1 * b for a, b in zip(mean, weights, strict=True)]
        assert_equal(seen.weights[-1], mean)
        assert_equal(model.get_weights(), mean)
    loaded = keras.saving.load_model(tmp_path / "best.keras")
    best = int(np.argmin(history["val_loss"]))
    assert_equal(loaded.get_weights(), seen.weights[best])
    np.testing.assert_allclose(loaded.evaluate(INPUTS, LABELS, verbose=0), min(history["val_loss"]), rtol=1e-4)
