"""What every decoding strategy promises. A new one joins by its line in `kseq.decoding.__all__`."""

import json

import keras
import numpy as np
import pytest

import kseq.decoding
from kseq.decoding import Decoded, MinimumLength, Strategy, SuppressedTokens
from tests.decoding.models import IDS, RandomRNN, run
from tests.support import compiled

MAX_LENGTH = 5
MODEL = RandomRNN(seed=8, batch=4)
EXPORTED = [getattr(kseq.decoding, name) for name in kseq.decoding.__all__]
STRATEGIES = [x for x in EXPORTED if isinstance(x, type) and issubclass(x, Strategy) and x is not Strategy]


@pytest.fixture(params=STRATEGIES, ids=lambda x: x.__name__)
def strategy(request):
    return request.param(min_length=2, constraints=(SuppressedTokens((0,)),))


def decode(strategy, state=MODEL.state, memory=MODEL.memory):
    return run(strategy, MODEL.step, state, memory, max_length=MAX_LENGTH)


def eagerly(strategy, state, memory):
    return strategy(MODEL.step, state, memory=memory, **IDS, max_length=MAX_LENGTH)


def rows(nest, start, stop):
    return keras.tree.map_structure(lambda x: x[start:stop], nest)


def assert_close(got, expected, atol=1e-5):
    for name, one, other in zip(Decoded._fields, got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=atol, err_msg=name)


def test_shapes_and_dtypes(strategy):
    decoded = decode(strategy)
    n = decoded.tokens.shape[1]
    assert {
        name: (tuple(x.shape), keras.backend.standardize_dtype(x.dtype)) for name, x in decoded._asdict().items()
    } == {
        "tokens": ((4, n, MAX_LENGTH), "int32"),
        "lengths": ((4, n), "int32"),
        "scores": ((4, n), "float32"),
        "alignments": ((4, n, MAX_LENGTH, 4), "float32"),
        "finished": ((4, n), "bool"),
        "log_probabilities": ((4, n, MAX_LENGTH), "float32"),
    }


def test_a_step_without_memory_and_alignments(strategy):
    def step(tokens, state):
        logits, hidden, _ = MODEL.step(tokens, state[:1], state[1])
        return logits, (*hidden, state[1])

    # A step may keep its memory in the state, where it is repeated and reordered: the answer is the same.
    decoded = run(strategy, step, (*MODEL.state, MODEL.memory), max_length=MAX_LENGTH)
    assert decoded.alignments is None
    assert_close(decoded._replace(alignments=0), decode(strategy)._replace(alignments=0))


def test_compiled_equals_eager(strategy):
    nests = (MODEL.state, MODEL.memory)
    assert_close(compiled(lambda *nests: eagerly(strategy, *nests))(*nests), eagerly(strategy, *nests))


def test_a_row_alone_equals_the_row_in_the_batch(strategy):
    together = decode(strategy)
    for row in range(4):
        alone = decode(strategy, rows(MODEL.state, row, row + 1), rows(MODEL.memory, row, row + 1))
        assert_close(rows(together, row, row + 1), alone)


def test_an_empty_batch_gives_an_empty_answer(strategy):
    nothing = rows((MODEL.state, MODEL.memory), 0, 0)
    for decoded in (eagerly(strategy, *nothing), compiled(lambda *nests: eagerly(strategy, *nests))(*nothing)):
        assert decoded.tokens.shape[::2] == (0, MAX_LENGTH)
        assert decoded.scores.shape[0] == decoded.alignments.shape[0] == 0


@pytest.mark.tensorflow
def test_batch_and_source_may_be_unknown(strategy):
    import tensorflow as tf

    def unknown(x):
        return tf.TensorSpec(
            (None, *([None] if x.ndim > 1 and x.shape[1] == 4 else x.shape[1:2]), *x.shape[2:]), x.dtype
        )

    signature = keras.tree.map_structure(unknown, (MODEL.state, MODEL.memory))
    traced = tf.function(lambda *nests: eagerly(strategy, *nests), input_signature=signature)
    assert_close(traced(MODEL.state, MODEL.memory), decode(strategy))
    assert_close(traced(*rows((MODEL.state, MODEL.memory), 1, 2)), rows(decode(strategy), 1, 2))
    assert traced(*rows((MODEL.state, MODEL.memory), 0, 0)).tokens.shape[0] == 0
    tokens = traced.get_concrete_function().structured_outputs.tokens
    assert tokens.shape.as_list() == [None, 1, MAX_LENGTH]


def test_is_saved_and_loaded(strategy):
    config = keras.saving.serialize_keras_object(strategy)
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert again == strategy
    assert type(strategy).from_config(strategy.get_config()) == strategy


def test_is_frozen(strategy):
    with pytest.raises(AttributeError):
        strategy.min_length = 3


@pytest.mark.parametrize("constraint", [MinimumLength(3), SuppressedTokens((1, 2))], ids=lambda x: type(x).__name__)
def test_constraints_are_saved_and_loaded(constraint):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(constraint)))
    assert keras.saving.deserialize_keras_object(config) == constraint
