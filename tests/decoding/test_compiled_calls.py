"""Calls outside compiled functions: equal ones are compiled once, and nothing that a step reads is ever old."""

import copy
import gc
import weakref

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.decoding import BeamSearch, GreedySearch, HotWords, Sampling, compiled_calls, ctc_beam_search
from kseq.decoding.fingerprint import KNOWN, fingerprint_of_step
from tests.decoding.models import IDS
from tests.support import BACKEND

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow runs operations one by one")

LOGITS = np.random.default_rng(3).normal(size=(6, 6)).astype("float32")


@pytest.fixture(autouse=True)
def calls():
    compiled_calls._calls.clear()
    yield compiled_calls._calls
    compiled_calls._calls.clear()


def scores(step, strategy=BeamSearch()):  # noqa: B008
    return np.asarray(strategy(step, np.zeros((2, 1), "float32"), **IDS, max_length=3, seed=1).scores)


class Suppressed(kseq.decoding.constraints.SuppressedTokens):
    """A constraint of a user's, which may read anything."""


class OwnModel(kseq.models.Seq2Seq):
    """A subclass of a user's, whose step may read anything."""

    temperature = 1.0

    def step(self, tokens, state, memory):
        output = super().step(tokens, state, memory)
        return output._replace(logits=output.logits / self.temperature)


def test_what_a_user_has_written_runs_anew_at_each_call(calls):
    seen, config = [], {"scale": 1.0}

    def step(tokens, state):
        seen.append(1)
        return ops.take(LOGITS, tokens, axis=0) * config["scale"] - 99.0 * ops.one_hot(IDS["eos_id"], 6), state

    before = [scores(step, GreedySearch()) for _ in range(3)][-1]
    assert len(seen) == 3 * 4  # one for the checks
    config["scale"] = 2.0
    assert np.abs(scores(step, GreedySearch()) - before).min() > 1e-3
    assert not calls


@pytest.mark.long
def test_a_strategy_with_a_constraint_of_a_user_is_not_compiled(calls):
    for _ in range(3):
        decode_of(small_model(), strategy=GreedySearch(constraints=(Suppressed([5]),)))
    assert not calls


@pytest.mark.long
def test_a_subclass_of_a_user_is_not_compiled(calls):
    model = small_model(OwnModel)
    before = [decode_of(model).scores for _ in range(3)][-1]
    model.temperature = 2.0
    assert not np.allclose(decode_of(model).scores, before)
    assert not calls


@pytest.mark.long
def test_a_change_of_an_attribute_is_seen(calls):
    model = small_model()
    before = [decode_of(model).scores for _ in range(3)][-1]
    assert [call.compiled is not None for call in calls.values()] == [True]
    (cell,) = (layer for layer in model.decoder._flatten_layers() if isinstance(layer, kseq.cells.GRUCell))
    cell.activation = keras.activations.relu
    after = decode_of(model).scores
    calls.clear()
    np.testing.assert_array_equal(after, decode_of(model).scores)
    assert not np.allclose(after, before)


def test_changes_of_any_part_are_seen_and_undone():
    model = small_model()
    model.table, model.rate, model.parts = np.ones(3), 1.5, ["a", {"b": 1}]

    def key():
        return fingerprint_of_step(model.step)[0]

    keys = [key(), key()]
    for change in (
        lambda: model.table.__setitem__(0, 2.0),
        lambda: setattr(model, "rate", 2.5),
        lambda: model.parts.append("c"),
        lambda: model.parts[1].__setitem__("b", 2),
        lambda: (setattr(model, "speed", model.rate), delattr(model, "rate")),
        lambda: setattr(model.decoder.layers[0].cell, "activation", keras.activations.relu),
    ):
        change()
        keys.append(key())
    assert keys[0] is keys[1]
    assert len(set(keys)) == 7
    for undo in (lambda: (setattr(model, "rate", 1.5), delattr(model, "speed")), lambda: model.table.fill(1.0)):
        undo()
        keys.append(key())
    assert len(set(keys)) == 9
    assert copy.deepcopy(model.__dict__[KNOWN]).function is None
    assert fingerprint_of_step(model.decoder.step)[0] is fingerprint_of_step(model.decoder.step)[0]
    assert fingerprint_of_step(copy.copy(model.decoder).step)[0] is not fingerprint_of_step(model.decoder.step)[0]


@pytest.mark.long
def test_seeds_of_any_shape_and_rows_of_any_number(calls):
    model = small_model()
    for seed in ([1, 2], [1, 2], 1, 1, [1, 2, 3, 4], 2):
        rows = len(seed) if isinstance(seed, list) else 2
        source = np.array([[4, 5, 6], [7, 8, 0]] * 2)[:rows]
        got = model.decode(source, np.array([3, 2] * 2)[:rows], strategy=Sampling(), max_length=4, seed=seed)
        calls_before = dict(calls)
        calls.clear()
        expected = model.decode(source, np.array([3, 2] * 2)[:rows], strategy=Sampling(), max_length=4, seed=seed)
        calls.clear()
        calls.update(calls_before)
        np.testing.assert_array_equal(got.scores, expected.scores)


@pytest.mark.long
def test_equal_models_do_not_share_a_call(calls):
    first, second = small_model(), small_model()
    second.set_weights(first.get_weights())
    for model in (first, second, second):
        decode_of(model)
    del second, model
    gc.collect()
    for rows in (2, 3, 4):
        decode_of(first, rows)


def small_model(made=kseq.models.Seq2Seq):
    model = made(kseq.models.Encoder(9, 4, kseq.cells.GRUCell(4)), kseq.models.Decoder(8, 4, kseq.cells.GRUCell(4)))
    model.build()
    return model


def decode_of(model, rows=2, strategy="greedy"):
    source, lengths = np.array([[4, 5, 6], [7, 8, 0]] * 2)[:rows], np.array([3, 2] * 2)[:rows]
    return model.decode(source, lengths, strategy=strategy, max_length=4)


@pytest.mark.long
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


@pytest.mark.long
def test_what_nobody_uses_any_more_is_forgotten(calls):
    model = small_model()
    rows = {"source": [[4, 5]], "target": [[2, 4, 3]]}
    model.compile("adam")
    model.fit(rows, verbose=0)  # leaves a history and functions that hold the model
    for _ in range(2):
        scores_of = model.decode(np.array([[4]]), np.array([1]), strategy="greedy", max_length=2).scores
    assert (len(calls), scores_of.shape) == (1, (1, 1))
    del model
    gc.collect()
    assert not calls


def test_few_calls_are_remembered(calls):
    model = small_model()
    for length in range(40):
        compiled_calls.compiled_again(scores, model.step, (length,))
    assert len(calls) == compiled_calls.MOST_CALLS
    waiting = [end.peek() for end in list(weakref.finalize._registry)]
    assert sum(each is not None and each[0] is model for each in waiting) == len(calls)


@pytest.mark.long
def test_ctc_beam_search_is_compiled_once(calls):
    logits, lengths = np.stack([LOGITS, 2 * LOGITS]), np.array([6, 4])
    for scorers in ((), (HotWords([[1, 2]], boost=2.0),)):
        answers = [ctc_beam_search(logits, lengths, top_paths=2, scorers=scorers) for _ in range(3)]
        for got, expected in zip(answers[2], answers[0], strict=True):
            np.testing.assert_array_equal(got, expected)
    assert len(calls) == 1  # without scorers, calls are found by their options alone
    with pytest.raises(ValueError, match=r"logit_lengths\[1\]=7"):
        ctc_beam_search(logits, np.array([6, 7]), top_paths=2)
