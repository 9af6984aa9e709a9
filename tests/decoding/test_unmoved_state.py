"""Unmoved states: every strategy writes the same with an unmoved cache and with an ordinary one."""

import numpy as np
import pytest
from keras import ops

from kseq.decoding import (
    BeamSearch,
    ContrastiveSearch,
    DiverseBeamSearch,
    GreedySearch,
    InPlace,
    Sampling,
    StepOutput,
    StochasticBeamSearch,
    UnmovedState,
    look_back,
    token_log_probabilities,
)
from tests.decoding.models import IDS, quick

BATCH, ROOM, HEADS, DIM, VOCABULARY = 3, 7, 2, 4, 6


class Attention:
    """One layer of self-attention over what has been read."""

    def __init__(self, *, unmoved):
        random = np.random.default_rng(5)
        self.embedding = random.normal(size=(BATCH, VOCABULARY, HEADS * DIM)).astype("float32")
        self.query = random.normal(size=(HEADS * DIM, HEADS * DIM)).astype("float32")
        self.output = random.normal(size=(HEADS * DIM, VOCABULARY)).astype("float32")
        self.unmoved = unmoved

    def state(self):
        cache = ops.zeros((BATCH, HEADS, ROOM, DIM))
        return {
            "row": np.arange(BATCH, dtype="int32"),
            "position": np.zeros(BATCH, "int32"),
            "places": np.zeros((BATCH, ROOM), "int32"),
            "cache": [UnmovedState(cache)] if self.unmoved else [cache],
        }

    def step(self, tokens, state):
        position, rows = ops.max(state["position"]), ops.shape(tokens)[0]
        table = ops.reshape(self.embedding, (-1, HEADS * DIM))
        read = ops.take(table, state["row"] * VOCABULARY + tokens, axis=0)  # (rows, heads * dim)
        query = ops.reshape(ops.matmul(read, self.query), (rows, HEADS, 1, DIM))
        attend = self.attend_unmoved if self.unmoved else self.attend
        context, changed = attend(query, ops.reshape(read, (rows, HEADS, 1, DIM)), state, position)
        hidden = read + ops.reshape(context, (rows, HEADS * DIM))
        state = {**state, "position": state["position"] + 1, **changed}
        return StepOutput(ops.matmul(hidden, self.output), state, None, hidden)

    def attend(self, query, read, state, position):
        cache = ops.slice_update(state["cache"][0], (0, 0, position, 0), read)
        scores = ops.matmul(query, ops.swapaxes(cache, 2, 3))  # (rows, heads, 1, room)
        weights = ops.softmax(ops.where(ops.arange(ROOM) <= position, scores, -1e30))
        return ops.matmul(weights, cache), {"cache": [cache]}

    def attend_unmoved(self, query, read, state, position):
        values = state["cache"][0].values
        beam, batch = values.shape[1] // HEADS, ops.shape(values)[0]
        places, seen = look_back(state["places"], position, beam)
        values = ops.slice_update(values, (0, 0, position, 0), ops.reshape(read, (batch, beam * HEADS, 1, DIM)))
        cache = ops.reshape(values, (batch, beam, HEADS, ROOM, DIM))
        query = ops.reshape(query, (batch, beam, HEADS, DIM))
        scores = ops.einsum("bihd,bphtd->bhipt", query, cache)
        scores = ops.where(ops.transpose(seen, (0, 2, 1, 3))[:, None], scores, -1e30)
        weights = ops.softmax(ops.reshape(scores, (batch, HEADS, beam, beam * ROOM)))
        weights = ops.reshape(weights, (batch, HEADS, beam, beam, ROOM))
        return ops.einsum("bhipt,bphtd->bihd", weights, cache), {"cache": [UnmovedState(values)], "places": places}


STRATEGIES = [
    GreedySearch(),
    BeamSearch(beam_width=1),
    BeamSearch(beam_width=4, top_paths=4, early_stopping="never"),
    DiverseBeamSearch(beam_width=4, num_groups=2, top_paths=4, early_stopping="never"),
    StochasticBeamSearch(num_samples=4),
    Sampling(num_samples=3),
    ContrastiveSearch(top_k=3),
]


@pytest.mark.mostly_long("GreedySearch", "BeamSearch4")
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda x: f"{type(x).__name__}{getattr(x, 'beam_width', '')}")
def test_every_strategy_writes_the_same_with_an_unmoved_cache(strategy):
    def decode(model):
        call = {**IDS, "max_length": ROOM - 1, "seed": 3}
        return quick(lambda state: strategy(model.step, state, **call))(model.state())

    plain, unmoved = (decode(Attention(unmoved=x)) for x in (False, True))
    np.testing.assert_array_equal(unmoved.tokens, plain.tokens)
    np.testing.assert_array_equal(unmoved.lengths, plain.lengths)
    np.testing.assert_allclose(unmoved.scores, plain.scores, atol=1e-5)
    assert len(np.unique(np.asarray(plain.tokens).reshape(-1, ROOM - 1), axis=0)) > 1


def test_the_beam_is_reordered_so_that_places_matter():
    class Forgetful(Attention):
        def attend_unmoved(self, query, read, state, position):
            context, changed = super().attend_unmoved(query, read, state, position)
            return context, {**changed, "places": state["places"]}  # as if each had always been in place 0

    strategy = BeamSearch(beam_width=4, top_paths=4, early_stopping="never")
    plain, forgetful = (
        strategy(model.step, model.state(), **IDS, max_length=ROOM - 1)
        for model in (Attention(unmoved=False), Forgetful(unmoved=True))
    )
    assert (np.asarray(plain.tokens) != np.asarray(forgetful.tokens)).any()


def test_the_earlier_name_is_the_same_class():
    assert InPlace is UnmovedState


@pytest.mark.long_on_jax
def test_several_outputs_are_scored_the_same():
    tokens = np.random.default_rng(0).integers(3, VOCABULARY, size=(BATCH, 2, 5))
    lengths = np.array([[5, 2], [1, 0], [4, 5]])
    plain, unmoved = (
        token_log_probabilities(model.step, model.state(), tokens, lengths, bos_id=IDS["bos_id"])
        for model in (Attention(unmoved=False), Attention(unmoved=True))
    )
    np.testing.assert_allclose(unmoved, plain, atol=1e-5)


def test_an_unmoved_state_is_not_moved():
    seen = []

    def step(tokens, state):
        seen.append(np.asarray(state["mark"].values))
        logits = ops.take(np.random.default_rng(1).normal(size=(5, 5)).astype("float32"), tokens, axis=0)
        rows, beam = ops.shape(tokens)[0], state["mark"].values.shape[1]
        marked = ops.reshape(ops.arange(rows, dtype="int32"), (rows // beam, beam))
        return logits, {**state, "mark": UnmovedState(marked)}

    BeamSearch(beam_width=3, early_stopping="never")(
        step, {"x": np.zeros((2, 1)), "mark": UnmovedState(np.zeros((2, 1), "int32"))}, **IDS, max_length=4
    )
    assert [x.shape for x in seen] == [(2, 1), *[(2, 3)] * 4]
    for mark in seen[2:]:
        np.testing.assert_array_equal(mark, [[0, 1, 2], [3, 4, 5]])
