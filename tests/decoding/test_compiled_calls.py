"""Calls outside compiled functions: equal ones are compiled once, and nothing that a step reads is ever old."""

import gc
import sys
import weakref

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.decoding import BeamSearch, Constraint, GreedySearch, HotWords, Sampling, compiled_calls, ctc_beam_search
from tests.decoding.models import IDS
from tests.support import BACKEND

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow runs operations one by one")

STATE = np.zeros((2, 1), "float32")
SHARPNESS = 1.0
LOGITS = np.random.default_rng(3).normal(size=(6, 6)).astype("float32")


@pytest.fixture(autouse=True)
def calls():
    compiled_calls._calls.clear()
    yield compiled_calls._calls
    compiled_calls._calls.clear()


class Scaled(keras.layers.Layer):
    """A layer with a number, an array and a weight, and a method that is a step."""

    factor = 1.0

    def __init__(self):
        super().__init__()
        self.temperature, self.table, self.scales = 1.0, LOGITS.copy(), [1.0]
        self.scale = self.add_weight(shape=(), initializer="ones")

    def step(self, tokens, state):
        logits = ops.take(self.table, tokens, axis=0) * self.scale * self.factor * self.scales[0] / self.temperature
        return logits, state


@keras.saving.register_keras_serializable(package="tests")
class Cost(Constraint):
    """Takes off what it reads in a list that nobody passes to it."""

    costs = [0.0]  # noqa: RUF012

    def __call__(self, log_probabilities, prefix, state):
        return log_probabilities - self.costs[0], state


def closure():
    number, nested = 1.0, {"scale": [1.0]}

    def helper(logits):
        return logits * number * nested["scale"][0]

    def step(tokens, state):
        return helper(ops.take(LOGITS, tokens, axis=0)) * SHARPNESS, state

    def set_number():
        nonlocal number
        number = 2.0

    return step, set_number, lambda: nested["scale"].__setitem__(0, 3.0)


def of_layer(change):
    def make():
        layer = Scaled()
        return layer.step, lambda: change(layer)

    return make


CHANGES = {
    "a number of the closure": lambda: closure()[:2],
    "a list in a dict of the closure": lambda: closure()[::2],
    "a global": lambda: (closure()[0], lambda: setattr(sys.modules[__name__], "SHARPNESS", 0.5)),
    "an attribute": of_layer(lambda layer: setattr(layer, "temperature", 2.0)),
    "an array in place": of_layer(lambda layer: layer.table.__imul__(2.0)),
    "a list": of_layer(lambda layer: layer.scales.__setitem__(0, 2.0)),
    "an attribute of the class": of_layer(lambda layer: setattr(Scaled, "factor", 3.0)),
    "a weight": of_layer(lambda layer: layer.set_weights([np.array(2.0)])),
}


def scores(step, strategy=BeamSearch()):  # noqa: B008
    return np.asarray(strategy(step, STATE, **IDS, max_length=3, seed=1).scores)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_what_a_step_reads_is_seen(name, calls, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SHARPNESS", 1.0)
    monkeypatch.setattr(Scaled, "factor", 1.0)
    step, change = CHANGES[name]()
    before = [scores(step) for _ in range(3)]
    assert [call.compiled is not None for call in calls.values()] == [True]
    np.testing.assert_array_equal(before[0], before[2])  # to the last bit, compiled or not
    change()
    after = scores(step)
    calls.clear()
    np.testing.assert_array_equal(after, scores(step))
    assert np.abs(after - before[0]).min() > 1e-3


def test_a_change_of_what_a_constraint_reads_is_seen(monkeypatch):
    step, strategy = closure()[0], GreedySearch(constraints=(Cost(),))
    before = [scores(step, strategy) for _ in range(3)][-1]
    monkeypatch.setattr(Cost, "costs", [1.0])
    np.testing.assert_allclose(scores(step, strategy), before - 3.0, rtol=1e-6)


def small_model():
    model = kseq.models.Seq2Seq(
        kseq.models.Encoder(9, 4, kseq.cells.GRUCell(4)), kseq.models.Decoder(8, 4, kseq.cells.GRUCell(4))
    )
    model.build()
    return model


def test_a_model_is_traced_once_and_its_new_weights_count(calls):
    model, source = small_model(), np.array([[4, 5, 6], [7, 8, 0]])

    def decode(lengths=(3, 2), **call):
        return model.decode(source, np.array(lengths), strategy=Sampling(), max_length=4, **{"seed": 1, **call})

    first = decode()
    np.testing.assert_array_equal(first.scores, decode().scores)
    (call,) = calls.values()
    traces = []
    original = model.decoder.step
    object.__setattr__(model.decoder, "step", lambda *x: traces.append(1) or original(*x))
    object.__delattr__(model.decoder, "step")  # the same attributes as before
    np.testing.assert_array_equal(first.tokens, decode().tokens)
    assert not traces
    assert list(calls.values()) == [call]
    assert not np.array_equal(first.tokens, decode(seed=2).tokens)
    assert not np.array_equal(decode(seed=None).scores, decode(seed=None).scores)
    model.set_weights([weight * 3.0 for weight in model.get_weights()])
    after = decode()
    calls.clear()
    np.testing.assert_array_equal(after.scores, decode().scores)
    assert not np.array_equal(first.scores, after.scores)


def test_what_nobody_uses_any_more_is_forgotten(calls):
    model = small_model()
    for _ in range(2):
        scores_of = model.decode(np.array([[4]]), np.array([1]), strategy="greedy", max_length=2).scores
    assert (len(calls), scores_of.shape) == (1, (1, 1))
    del model
    gc.collect()
    assert not calls


def test_few_calls_are_remembered(calls):
    layer = Scaled()
    for temperature in range(1, 40):
        layer.temperature = float(temperature)
        compiled_calls.compiled_again(scores, layer.step, ())
    assert len(calls) == compiled_calls.MOST_CALLS
    waiting = [end.peek() for end in list(weakref.finalize._registry)]
    assert sum(each is not None and each[0] is layer for each in waiting) == len(calls)


def test_a_step_with_effects_runs_at_every_token(calls, capsys):
    seen = []

    def counting(tokens, state):
        seen.append(1)
        return ops.take(LOGITS, tokens, axis=0) - 99.0 * ops.one_hot(IDS["eos_id"], 6), state

    def printing(tokens, state):
        print("step")
        return ops.take(LOGITS, tokens, axis=0) - 99.0 * ops.one_hot(IDS["eos_id"], 6), state

    for step in (counting, printing):
        for _ in range(3):
            scores(step, GreedySearch())
    assert len(seen) == 3 * 4  # one for the checks
    assert capsys.readouterr().out.count("step") == 3 * 4
    assert not any(call.compiled for call in calls.values())


def test_ctc_beam_search_is_compiled_once(calls):
    logits, lengths = np.stack([LOGITS, 2 * LOGITS]), np.array([6, 4])
    for scorers in ((), (HotWords([[1, 2]], boost=2.0),)):
        answers = [ctc_beam_search(logits, lengths, top_paths=2, scorers=scorers) for _ in range(3)]
        for got, expected in zip(answers[2], answers[0], strict=True):
            np.testing.assert_array_equal(got, expected)
    assert len(calls) == 2
    with pytest.raises(ValueError, match=r"logit_lengths\[1\]=7"):
        ctc_beam_search(logits, np.array([6, 7]), top_paths=2)
