"""Resuming an interrupted training: the losses that follow are those of an undisturbed one."""

import errno
import os
import pathlib
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq.training import training_state

CELL = kseq.cells.GRUCell


class Losses(keras.callbacks.Callback):
    """Keeps the logs of each step, by the optimizer's number of steps, and stops a training in the middle."""

    def __init__(self, stop=None):
        super().__init__()
        self.losses, self.epochs, self.stop = {}, [], stop

    def on_train_batch_end(self, batch, logs=None):
        steps = int(self.model.optimizer.iterations)
        self.losses[steps] = dict(logs)
        if steps == self.stop:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append((epoch, dict(logs)))


def tagger_and_batches(seed=1, rows=14):
    keras.utils.set_random_seed(4)
    random = np.random.default_rng(5)
    encoder = kseq.models.ConvolutionalEncoder(12, 4, filters=3, kernel_sizes=(2,))
    model = kseq.models.Tagger(encoder, 3, dropout=0.4)
    model.build()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.05, 3, 0.8)
    model.compile(keras.optimizers.Adam(schedule))
    source = [random.integers(0, 12, size=size).tolist() for size in random.integers(1, 9, size=rows)]
    data = {"source": source, "tags": [[token % 3 for token in row] for row in source]}
    batches = kseq.training.bucket_by_length(data, batch_size=3, buckets=(4, 8), shuffle=True, seed=seed)
    return model, batches


def language_model_and_batches():
    keras.utils.set_random_seed(4)
    encoder = kseq.models.Encoder(9, 4, CELL(3), bidirectional=False, dropout=0.2)
    model = kseq.models.LanguageModel(encoder, dropout=0.3)
    model.build()
    model.compile(keras.optimizers.RMSprop(0.02))
    ids = np.random.default_rng(5).integers(0, 9, size=67)
    return model, kseq.training.continuous_batches(ids, batch_size=3, steps=4, document_ends=[20, 67])


MAKERS = {"tagger": tagger_and_batches, "language model": language_model_and_batches}


def fit(make, callbacks=(), directory=None, stop=None, every_steps=2, epochs=3, kind=Losses):
    model, batches = make()
    losses = kind(stop)
    resume = [] if directory is None else [kseq.training.ExactResume(directory, batches, every_steps=every_steps)]
    model.fit(batches, epochs=epochs, verbose=0, callbacks=[*resume, losses, *callbacks])
    return model, losses


def assert_same(model, losses, whole, of_whole, after):
    assert {step for step in losses.losses if step > after} == set(range(after + 1, max(of_whole.losses) + 1))
    for step, logs in losses.losses.items():
        assert logs == of_whole.losses[step], step
    assert losses.epochs == of_whole.epochs[-len(losses.epochs) :]
    for value, expected in zip(model.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.long_on_jax
@pytest.mark.parametrize(
    ("stop", "every", "after"),
    [  # goes on in the second epoch, at the end of the first, and at the second's begin
        (9, 2, 8),
        pytest.param(6, 2, 6, marks=pytest.mark.long),
        pytest.param(8, 4, 6, marks=pytest.mark.long),
    ],
)
def test_goes_on_in_the_middle_of_an_epoch(tmp_path, stop, every, after):
    whole, of_whole = fit(tagger_and_batches, epochs=2)
    assert len(of_whole.losses) == 12
    assert of_whole.epochs[0] != of_whole.epochs[1]
    with pytest.raises(KeyboardInterrupt):
        fit(tagger_and_batches, directory=tmp_path, stop=stop, every_steps=every, epochs=2)
    model, losses = fit(tagger_and_batches, directory=tmp_path, every_steps=every, epochs=2)
    assert min(losses.losses) >= after
    assert_same(model, losses, whole, of_whole, after)
    assert not list(tmp_path.iterdir())  # the state of a training that has ended


@pytest.mark.long
@pytest.mark.every_backend
def test_noise_and_rates_of_parts_go_on_as_well(tmp_path):
    def changing():
        training = kseq.training
        return [training.WeightNoise(0.1), training.GradientNoise(0.01), training.LearningRates({"to_logits": 0.3})]

    whole, of_whole = fit(tagger_and_batches, changing(), epochs=2)
    plain, _ = fit(tagger_and_batches, epochs=2)
    assert not np.allclose(whole.get_weights()[0], plain.get_weights()[0])
    with pytest.raises(KeyboardInterrupt):
        fit(tagger_and_batches, changing(), directory=tmp_path, stop=9, epochs=2)
    model, losses = fit(tagger_and_batches, changing(), directory=tmp_path, epochs=2)
    assert_same(model, losses, whole, of_whole, after=8)


SCRIPT = """
import os, signal, sys
import kseq
kseq.config.set_jit_compile(False)  # as in the process that goes on
from tests.training.test_exact_resume import MAKERS, Losses, fit

class Killed(Losses):
    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == self.stop:
            os.kill(os.getpid(), signal.SIGKILL)

fit(MAKERS[sys.argv[1]], directory=sys.argv[2], stop=int(sys.argv[3]), every_steps=3, kind=Killed)
"""


@pytest.mark.long
def test_after_a_kill_the_same_losses_follow(tmp_path):
    stops = {"tagger": 11, "language model": 10}
    root = pathlib.Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    killed = {
        name: subprocess.Popen([sys.executable, "-c", SCRIPT, name, str(tmp_path / name), str(stop)], env=environment)
        for name, stop in stops.items()
    }
    whole = {name: fit(MAKERS[name]) for name in stops}
    for name, process in killed.items():
        assert process.wait(timeout=300) == -signal.SIGKILL
        assert [path.name for path in (tmp_path / name).iterdir()] == ["training_state.npz"]
        model, losses = fit(MAKERS[name], directory=tmp_path / name)
        assert min(losses.losses) > stops[name] - 6  # not from the beginning
        assert_same(model, losses, *whole[name], after=stops[name] - 1)


def test_order_is_a_function_of_seed_and_epoch():
    def orders(*epochs, seed=1):
        batches = tagger_and_batches(seed)[1]
        found = []
        for epoch in epochs:
            if epoch is not None:
                batches.order.epoch = epoch
            found.append([batch["source"].numpy().tolist() for batch in batches])
        return found

    first, second, third = orders(None, None, None)
    assert first != second != third
    assert orders(2, 0, 1) == [third, first, second]
    assert orders(0, seed=2) != [first]
    batches = tagger_and_batches(seed=None)[1]
    assert batches.order.seed != tagger_and_batches(seed=None)[1].order.seed


@pytest.fixture
def saved(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(tagger_and_batches, directory=tmp_path, stop=4)
    return tmp_path


@pytest.mark.long
def test_refuses_other_data_and_other_models(saved):
    def resumed(model, batches, **options):
        model.fit(batches, epochs=2, verbose=0, callbacks=[kseq.training.ExactResume(saved, batches)], **options)

    model, batches = tagger_and_batches()
    with pytest.raises(ValueError, match="a training with other data"):
        resumed(model, tagger_and_batches(rows=13)[1])
    wider = kseq.models.ConvolutionalEncoder(12, 4, filters=4, kernel_sizes=(2,))
    other = kseq.models.Tagger(wider, 3, dropout=0.4)
    other.build()
    other.compile()
    with pytest.raises(ValueError, match="a training with other model"):
        resumed(other, batches)
    model.compile("adam")
    with pytest.raises(ValueError, match="a training with other optimizer"):
        resumed(model, batches)
    model, batches = tagger_and_batches(seed=9)  # the order's seed is that of the state
    resumed(model, batches)
    assert batches.order.seed == 1


@pytest.mark.long
def test_a_full_disk_leaves_the_last_state(saved, monkeypatch):
    before = (saved / "training_state.npz").read_bytes()

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(training_state.np, "savez", full)
    with pytest.raises(
        OSError, match=r"step 6 could not be written \(No space left on device\). The last one"
    ) as error:
        fit(tagger_and_batches, directory=saved, every_steps=6)
    assert error.value.errno == errno.ENOSPC
    assert [path.name for path in saved.iterdir()] == ["training_state.npz"]
    assert (saved / "training_state.npz").read_bytes() == before


def dense(directory, dataset, stop=None, **options):
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    model.compile("adam", "mse", steps_per_execution=options.pop("steps_per_execution", 1))
    losses = Losses(stop)
    callbacks = [losses] if directory is None else [kseq.training.ExactResume(directory, dataset, **options), losses]
    model.fit(dataset, epochs=2, verbose=0, shuffle=False, callbacks=callbacks)
    return losses


def dataset_of_pairs():
    """Return batches in one order; TensorFlow's tuning of a dataset makes its end wait now and then, up to a minute."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensor_slices(some_pairs()).batch(2).with_options(options)


def some_pairs():
    random = np.random.default_rng(1)
    return random.normal(size=(12, 2)).astype("float32"), random.normal(size=(12, 1)).astype("float32")


@pytest.mark.long
def test_any_keras_model_and_dataset_of_one_order(tmp_path):
    dataset = dataset_of_pairs()
    whole = dense(None, dataset, steps_per_execution=2)
    with pytest.raises(KeyboardInterrupt):
        dense(tmp_path, dataset, stop=10, every_steps=3, steps_per_execution=2)
    resumed = dense(tmp_path, dataset, every_steps=3, steps_per_execution=2, delete_at_end=False)
    assert min(resumed.losses) > 6
    assert resumed.losses[12] == whole.losses[12]
    ended = dense(tmp_path, dataset, every_steps=3, steps_per_execution=2)  # goes on after the end: nothing is left
    assert not ended.losses
    with pytest.raises(ValueError, match="begins with another batch each time"):
        kseq.training.ExactResume(tmp_path, tf.data.Dataset.from_tensor_slices(some_pairs()).shuffle(12).batch(2))
    with pytest.raises(ValueError, match="batches is a ndarray"):
        kseq.training.ExactResume(tmp_path, some_pairs()[0])
    with pytest.raises(ValueError, match="every_steps=0"):
        kseq.training.ExactResume(tmp_path, dataset, every_steps=0)


@pytest.mark.long
def test_refuses_a_model_without_variables_and_another_first_epoch(saved):
    dataset = dataset_of_pairs()
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("adam", "mse")
    callback = kseq.training.ExactResume(saved, dataset)
    callback.set_model(model)
    with pytest.raises(ValueError, match="not built"):
        callback.on_train_begin()
    model, batches = tagger_and_batches()
    with pytest.raises(ValueError, match=r"fit begins with epoch 1\. Leave initial_epoch out"):
        model.fit(batches, epochs=3, initial_epoch=1, verbose=0, callbacks=[kseq.training.ExactResume(saved, batches)])
