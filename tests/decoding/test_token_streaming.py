"""Streamed tokens: together they are the answer of the strategy."""

import keras
import numpy as np
import pytest
from keras import ops

from kseq.decoding import BeamSearch, GreedySearch, Sampling, SuppressedTokens, TokenStreaming, sample, stream
from tests.decoding.models import EOS, IDS, RandomRNN, quick

MODEL = RandomRNN(seed=17, batch=3)
OPTIONS = {"max_length": 5, "pad_id": -1}
PROMPT = {"prompt": np.array([[3, 4], [0, 0], [4, 0]], "int32"), "prompt_lengths": np.array([2, 0, 1], "int32")}


@pytest.mark.long
@pytest.mark.long_on_jax
@pytest.mark.parametrize(
    ("strategy", "request_"),
    [
        (GreedySearch(min_length=3, constraints=(SuppressedTokens((0,)),)), {}),
        (Sampling(temperature=2.0, top_p=0.9), {"seed": np.array([1, 2, 3], "int32"), **PROMPT}),
    ],
    ids=["greedy", "sampling"],
)
def test_the_stream_is_the_answer_at_once(strategy, request_):
    streaming = TokenStreaming(strategy=strategy, step=MODEL.step, **IDS, **OPTIONS)
    generator, streamed = streaming(MODEL.state, memory=MODEL.memory, **request_), []
    while True:
        try:
            streamed.append(next(generator))
        except StopIteration as end:
            answer = end.value
            break
    run = quick(lambda state, memory: strategy(MODEL.step, state, memory=memory, **IDS, **OPTIONS, **request_))
    at_once = keras.tree.map_structure(np.asarray, run(MODEL.state, MODEL.memory))
    for got, expected in zip(answer, at_once, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)
    steps = len(streamed)
    assert steps == at_once.lengths.max()
    np.testing.assert_array_equal(np.stack([x.tokens for x in streamed], axis=1), at_once.tokens[:, 0, :steps])
    own = np.stack([x.log_probabilities for x in streamed], axis=1)
    np.testing.assert_allclose(own, at_once.log_probabilities[:, 0, :steps], atol=1e-5)
    np.testing.assert_array_equal(streamed[-1].finished, at_once.finished[:, 0])


@pytest.mark.long
def test_a_token_comes_before_the_next_is_computed_and_a_step_compiles_once():
    traced = []

    def step(tokens, state):
        traced.append(1)
        return ops.one_hot(tokens + 1, 7) * 9.0, state

    streaming = TokenStreaming(strategy=GreedySearch(), step=step, bos_id=0, eos_id=6, max_length=9)
    state = np.zeros((1, 1), "float32")
    counted = [int(x.tokens[0]) for x in streaming(state)]
    assert counted == [1, 2, 3, 4, 5, 6]
    after_one = len(traced)
    assert [int(x.tokens[0]) for x in streaming(state)] == counted
    assert len(traced) == after_one <= 3  # what begins calls it once, what advances once or twice
    first = next(stream(step, state, bos_id=0, eos_id=6, max_length=10**6))
    assert (int(first.tokens[0]), bool(first.finished[0])) == (1, False)


@pytest.mark.long
def test_large_seeds_are_those_of_the_answer_at_once():
    def step(tokens, state):
        return ops.zeros((ops.shape(tokens)[0], 50)), state

    state, call = np.zeros((1, 1), "float32"), {**IDS, "max_length": 6, "seed": 2**40 + 1}
    streamed = [int(x.tokens[0]) for x in stream(step, state, strategy=Sampling(), **call)]
    at_once = np.asarray(sample(step, state, **call).tokens)[0, 0, : len(streamed)].tolist()
    assert streamed == at_once
    assert EOS not in streamed[:-1]


@pytest.mark.parametrize("strategy", [BeamSearch(), Sampling(num_samples=2)], ids=["beam", "samples"])
def test_says_what_cannot_be_streamed(strategy):
    with pytest.raises(ValueError, match="one hypothesis from left to right, but got"):
        TokenStreaming(strategy=strategy, step=MODEL.step, **IDS, max_length=3)


@pytest.mark.parametrize(
    "wrong", [{"top_p": 0.9}, {"constraints": ()}, {"eos_id": None}, {"source_mask": np.ones((3, 4), "bool")}], ids=str
)
def test_arguments_that_are_not_a_strategys_call_are_refused(wrong):
    call = {**IDS, **OPTIONS, **wrong}
    call = {name: value for name, value in call.items() if value is not None}
    with pytest.raises(TypeError, match=next(iter(wrong))):
        stream(MODEL.step, MODEL.state, memory=MODEL.memory, **call)
