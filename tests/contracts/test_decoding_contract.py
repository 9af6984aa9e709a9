"""The contract of decoding strategies. A new one joins by its line in `kseq.decoding.__all__`."""

import dataclasses
import inspect
import json
import re

import keras
import numpy as np
import pytest

import kseq.decoding
from kseq.decoding import Decoded, Strategy, SuppressedTokens
from tests.decoding.models import EOS, RandomRNN, quick
from tests.support import BACKEND, compiled

MAX_LENGTH = 5
MODEL = RandomRNN(seed=8, batch=4)
IDS = {"bos_id": 1, "eos_id": (3, EOS)}
SEEDS = np.array([3, 1, 4, 1], "int32")
PROMPTS = np.array([[4, 1], [0, 9], [9, 9], [4, 9]], "int32")  # 9 is no token, and stands where nothing may look
PROMPT_LENGTHS = np.array([2, 1, 0, 1], "int32")
INPUTS = (MODEL.state, MODEL.memory, SEEDS, PROMPTS, PROMPT_LENGTHS)
EXPORTED = [getattr(kseq.decoding, name) for name in kseq.decoding.__all__]
STRATEGIES = [x for x in EXPORTED if isinstance(x, type) and issubclass(x, Strategy) and x is not Strategy]


@pytest.fixture(scope="module", params=STRATEGIES, ids=lambda x: x.__name__)
def strategy(request):
    return request.param(min_length=2, constraints=(SuppressedTokens((0,)),))


@pytest.fixture(scope="module")
def decode(strategy):
    """The strategy as a function of tensors: on TensorFlow a graph of unknown batch and source, on JAX compiled."""
    if BACKEND != "tensorflow":
        return quick(lambda *inputs: eagerly(strategy, *inputs))
    import tensorflow as tf

    def unknown(x):
        return tf.TensorSpec(
            (None, *([None] if x.ndim > 1 and x.shape[1] == 4 else x.shape[1:2]), *x.shape[2:]), x.dtype
        )

    signature = keras.tree.map_structure(unknown, INPUTS)
    return tf.function(lambda *inputs: eagerly(strategy, *inputs), signature, autograph=False)


@pytest.fixture(scope="module")
def decoded(decode):
    return keras.tree.map_structure(np.asarray, decode(*INPUTS))


def eagerly(strategy, state, memory, seed, prompt, lengths):
    options = {"seed": seed, "prompt": prompt, "prompt_lengths": lengths}
    return strategy(MODEL.step, state, memory=memory, max_length=MAX_LENGTH, **IDS, **options)


def rows(nest, start, stop):
    return keras.tree.map_structure(lambda x: x[start:stop], nest)


def assert_close(got, expected, atol=1e-5):
    for name, one, other in zip(Decoded._fields, got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=atol, err_msg=name)


@pytest.mark.mostly_long("BeamSearch", "GreedySearch")
@pytest.mark.long_on_jax("BeamSearch")
def test_shapes_and_dtypes(decoded):
    n = decoded.tokens.shape[1]
    assert {name: (x.shape, x.dtype.name) for name, x in decoded._asdict().items()} == {
        "tokens": ((4, n, MAX_LENGTH), "int32"),
        "lengths": ((4, n), "int32"),
        "scores": ((4, n), "float32"),
        "alignments": ((4, n, MAX_LENGTH, 4), "float32"),
        "finished": ((4, n), "bool"),
        "log_probabilities": ((4, n, MAX_LENGTH), "float32"),
    }


@pytest.mark.long
def test_eager_compiled_and_of_unknown_shape_are_equal(strategy, decoded):
    assert_close(eagerly(strategy, *INPUTS), decoded)
    assert_close(compiled(lambda *inputs: eagerly(strategy, *inputs))(*INPUTS), decoded)


@pytest.mark.mostly_long("BeamSearch", "GreedySearch", "Sampling")
@pytest.mark.long_on_jax("BeamSearch")
def test_a_row_alone_equals_the_row_in_the_batch(decode, decoded):
    """Whatever the lengths of the others' prompts."""
    for row in range(4):
        assert_close(rows(decoded, row, row + 1), decode(*rows(INPUTS, row, row + 1)))


@pytest.mark.long_on_jax("BeamSearch", "Sampling")
def test_prompts_come_first(decoded):
    for row, length in enumerate(PROMPT_LENGTHS):
        assert (decoded.tokens[row, :, :length] == PROMPTS[row, :length]).all()
        assert (decoded.log_probabilities[row, :, :length] == 0).all()


@pytest.mark.every_backend
def test_several_tokens_may_end(decoded):
    ends = np.isin(decoded.tokens, IDS["eos_id"])
    assert ends.any()
    np.testing.assert_array_equal(decoded.finished, ends.any(axis=-1))
    lengths = np.where(ends.any(axis=-1), ends.argmax(axis=-1) + 1, MAX_LENGTH)
    np.testing.assert_array_equal(decoded.lengths, lengths)


def test_without_memory_alignments_and_prompts(strategy, decode):
    def step(tokens, state):
        logits, hidden, _, shown = MODEL.step(tokens, state[:1], state[1])
        return logits, (*hidden, state[1]), None, shown

    # A step may keep its memory in the state, where it is repeated and reordered; a prompt may be empty.
    run = quick(lambda state: strategy(step, state, **IDS, max_length=MAX_LENGTH, seed=SEEDS))
    answer = run((*MODEL.state, MODEL.memory))
    assert answer.alignments is None
    expected = decode(*INPUTS[:-1], np.zeros_like(PROMPT_LENGTHS))
    assert_close(answer._replace(alignments=0), expected._replace(alignments=0))


def test_an_empty_batch_gives_an_empty_answer(strategy, decode):
    nothing = rows(INPUTS, 0, 0)
    for decoded in (decode(*nothing), eagerly(strategy, *nothing)):
        assert decoded.tokens.shape[::2] == (0, MAX_LENGTH)
        assert decoded.scores.shape[0] == decoded.alignments.shape[0] == 0


def test_of_unknown_batch_the_rest_is_known(decode):
    tokens = decode.get_concrete_function().structured_outputs.tokens
    assert tokens.shape.as_list() == [None, 1, MAX_LENGTH]


def test_is_saved_and_loaded(strategy):
    config = keras.saving.serialize_keras_object(strategy)
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert again == strategy
    assert type(strategy).from_config(strategy.get_config()) == strategy


def test_one_function_takes_and_explains_every_option(strategy):
    own = {field.name for field in dataclasses.fields(strategy)}
    call = set(inspect.signature(type(strategy).__call__).parameters) - {"self"}
    functions = [x for x in EXPORTED if inspect.isfunction(x)]
    (function,) = (x for x in functions if set(inspect.signature(x).parameters) == own | call)
    assert own <= set(re.findall(r"^    (\w+): ", inspect.getdoc(function), re.MULTILINE))
    task = {field.name for field in dataclasses.fields(strategy.task(None, **IDS, max_length=3))}
    assert call - {"state"} <= task


def test_is_frozen(strategy):
    with pytest.raises(AttributeError):
        strategy.min_length = 3
