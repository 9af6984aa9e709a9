"""The contract of training: clipping, accumulation, averages, frozen parts, rates of parts and noise, with every model.

An update by `SGD(1.0)` is the negative gradient, so what an option of the optimizer means can be seen in the weights.
"""

import keras
import numpy as np
import pytest

import kseq
from kseq.training import LearningRates, WeightNoise
from kseq.training.gradient_noise import normal_noise
from tests.contracts.models import MAKERS, batch_of

QUICK = ("Seq2Seq", "Tagger", "Forecaster")  # the others have the same training step as one of these


@pytest.fixture(params=[pytest.param(n, marks=pytest.mark.long if n in QUICK else pytest.mark.slow) for n in MAKERS])
def trained(request):
    keras.utils.set_random_seed(3)
    model = MAKERS[request.param]()
    model.build()
    random = np.random.default_rng(1)
    model.set_weights([0.5 * random.normal(size=weight.shape) for weight in model.get_weights()])
    return Trained(model, batch_of(model, request.param))


class Trained:
    """A model that is trained again and again from the same weights and seeds, on two batches of two rows."""

    def __init__(self, model, rows):
        self.model, self.rows = model, rows
        self.before = [np.array(each) for each in model.variables]

    def reset(self):
        for variable, value in zip(self.model.variables, self.before, strict=True):
            variable.assign(value)

    def weights(self):
        return [np.array(each) for each in self.model.trainable_variables]

    def changes(self, *callbacks, steps=1, begin=None, keep=False, **options):
        """Return by how much the weights are changed by each step, from the same weights unless `keep`."""
        self.reset()
        start = self.weights() if begin is None else begin
        recorder = _Changes(self.model, start, keep)
        self.model.compile(keras.optimizers.SGD(1.0, **options), run_eagerly=True)
        rows = {name: values[: 2 * steps] for name, values in self.rows.items()}
        recorder.assign()
        with kseq.config.jit_compile_scope(False):
            self.model.fit(rows, batch_size=2, shuffle=False, verbose=0, callbacks=[*callbacks, recorder])
        return recorder.changes


class _Changes(keras.callbacks.Callback):
    def __init__(self, model, start, keep):
        super().__init__()
        self.variables, self.start, self.keep, self.changes = model.trainable_variables, start, keep, []

    def assign(self):
        for variable, value in zip(self.variables, self.start, strict=True):
            variable.assign(value)

    def on_train_batch_end(self, batch, logs=None):
        self.changes.append([np.array(each) - value for each, value in zip(self.variables, self.start, strict=True)])
        if not self.keep:
            self.assign()


def assert_close(changes, expected):
    scale = max(np.abs(each).max() for each in expected)
    assert scale > 1e-4
    for change, each in zip(changes, expected, strict=True):
        np.testing.assert_allclose(change, each, atol=2e-5 * max(scale, 1.0), rtol=1e-3)


def test_gradients_are_clipped_as_keras_says(trained):
    """Keras clips the rows of an embedding's gradient before it adds those of equal ids: its norm is another one."""
    model = trained.model
    embeddings = {id(each.embeddings) for each in model._flatten_layers() if isinstance(each, keras.layers.Embedding)}
    in_rows = [id(each) in embeddings for each in model.trainable_variables]
    (plain,) = trained.changes()
    norms = [np.linalg.norm(each) for each in plain]
    whole, largest = np.linalg.norm(norms), max(np.abs(each).max() for each in plain)

    def factors(changes):
        """Return by what each gradient was multiplied."""
        found = [np.vdot(each, g) / max(np.vdot(g, g), 1e-9) for each, g in zip(changes, plain, strict=True)]
        assert_close(changes, [factor * g for factor, g in zip(found, plain, strict=True)])
        return found

    most = float(np.median([norm for norm in norms if norm]))
    for factor, norm, rows in zip(factors(trained.changes(clipnorm=most)[0]), norms, in_rows, strict=True):
        assert norm < 1e-6 * whole or (
            0.0 < factor < 1.001 if rows else factor == pytest.approx(min(1.0, most / norm), rel=1e-3)
        )
    found = factors(trained.changes(global_clipnorm=float(whole) / 3)[0])
    found = [factor for factor, norm in zip(found, norms, strict=True) if norm > 1e-3 * whole]
    assert found == pytest.approx([found[0]] * len(found), rel=1e-3)
    assert found[0] == pytest.approx(1 / 3, rel=1.0 if any(in_rows) else 1e-3)
    most = float(largest) / 2
    clipped = zip(trained.changes(clipvalue=most)[0], plain, in_rows, strict=True)
    dense = [(each, np.clip(g, -most, most)) for each, g, rows in clipped if not rows]
    assert_close(*zip(*dense, strict=True))


def test_accumulated_batches_are_one_update_by_their_mean(trained):
    first, second = trained.changes(steps=2)
    mean = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    before, after = trained.changes(steps=2, keep=True, gradient_accumulation_steps=2)
    assert all((each == 0).all() for each in before)
    assert_close(after, mean)


def test_the_moving_average_is_that_of_the_weights_after_each_update(trained):
    first, second = trained.changes(steps=2, keep=True)
    mean = [0.75 * a + 0.25 * b for a, b in zip(first, second, strict=True)]
    again = trained.changes(steps=2, keep=True, use_ema=True, ema_momentum=0.75)
    assert_close(again[1], second)  # while training, the weights are those without an average
    start = [np.array(value) for value in trained.before]
    places = [id(each) for each in trained.model.variables]
    start = [start[places.index(id(each))] for each in trained.model.trainable_variables]
    assert_close([now - was for now, was in zip(trained.weights(), start, strict=True)], mean)


def test_frozen_parts_stay_as_they_are(trained):
    model = trained.model
    (plain,) = trained.changes()
    every = [each for each in model._flatten_layers(include_self=False) if each.trainable_variables]
    embeddings = [each for each in every if isinstance(each, keras.layers.Embedding)]
    encoder = getattr(model, "encoder", None)
    parts = [[encoder if isinstance(encoder, keras.layers.Layer) else every[0]], embeddings, [every[-1]]]
    variables = model.trainable_variables
    for part in filter(None, parts):
        frozen = {id(variable) for layer in part for variable in layer.trainable_variables}
        if len(frozen) == len(variables):
            continue
        for layer in part:
            layer.trainable = False
        try:
            (changes,) = trained.changes()
        finally:
            for layer in part:
                layer.trainable = True
        expected = [change for each, change in zip(variables, plain, strict=True) if id(each) not in frozen]
        assert_close(changes, expected)
        places = {id(each): value for each, value in zip(model.variables, trained.before, strict=True)}
        for each in variables:
            if id(each) in frozen:
                np.testing.assert_array_equal(np.array(each), places[id(each)])


def test_parts_have_learning_rates_of_their_own(trained):
    model = trained.model
    (plain,) = trained.changes(weight_decay=0.01)
    every = [each for each in model._flatten_layers(include_self=False) if each.trainable_variables]
    encoder = getattr(model, "encoder", None)
    part = "encoder" if isinstance(encoder, keras.layers.Layer) else every[0]
    inside = {id(each) for each in (encoder if part == "encoder" else part).trainable_variables}
    (changes,) = trained.changes(LearningRates({part: 0.25}), weight_decay=0.01)
    factors = [0.25 if id(each) in inside else 1.0 for each in model.trainable_variables]
    assert_close(changes, [factor * each for factor, each in zip(factors, plain, strict=True)])


def test_noise_changes_where_the_gradient_is_taken_and_nothing_else(trained):
    start = trained.weights()
    noise = [0.1 * np.array(normal_noise(each.shape, 5, -1 - place, np.int32(0))) for place, each in enumerate(start)]
    (expected,) = trained.changes(begin=[a + b for a, b in zip(start, noise, strict=True)])
    assert_close(trained.changes(WeightNoise(0.1, seed=5))[0], expected)
