"""The contract of constraints. A new one joins by its line in `constraints.__all__` and in EXAMPLES."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from kseq.decoding import LOG_ZERO, Prefix, constraints
from tests.support import compiled

EXAMPLES = [
    constraints.AllowedOutputs([(3, 4), (3, 0, 0), (4, 1, 3), (1,)]),
    constraints.FirstToken(3),
    constraints.FrequencyPenalty(0.5, 0.3),
    constraints.LastToken(4),
    constraints.MinimumLength(3),
    constraints.NoRepeatedNGram(2),
    constraints.RepetitionPenalty(1.3),
    constraints.RequiredPhrases([(3, 4), (0,)]),
    constraints.SuppressedTokens((1, 3)),
]
VOCABULARY, MAX_LENGTH, BOS, EOS_IDS = 6, 5, 1, (2, 5)
RANDOM = np.random.default_rng(0)
WRITTEN = np.array([[3, 4, 3, 4], [3, 0, 0, 4], [4, 1, 3, 3], [0, 0, 0, 0]], "int32")
LOG_PROBABILITIES = -np.abs(RANDOM.normal(size=(MAX_LENGTH, 4, VOCABULARY)).astype("float32"))


@pytest.fixture(params=EXAMPLES, ids=lambda x: type(x).__name__)
def constraint(request):
    return request.param


def follow(constraint, written, log_probabilities):
    """The constrained log-probabilities before each token that is written, and after the last."""
    batch = written.shape[0]
    state = constraint.initial_state(batch, VOCABULARY, MAX_LENGTH)
    last, outputs = ops.full((batch,), BOS, dtype="int32"), []
    for length in range(MAX_LENGTH):
        tokens = ops.pad(written[:, :length], [(0, 0), (0, MAX_LENGTH - length)], constant_values=-1)  # no token
        prefix = Prefix(tokens, last, ops.convert_to_tensor(length, dtype="int32"), EOS_IDS)
        values, state = constraint(log_probabilities[length], prefix, state)
        outputs.append(values)
        last = written[:, min(length, MAX_LENGTH - 2)]
    return ops.stack(outputs)


def test_every_constraint_has_an_example():
    exported = {x for x in (getattr(constraints, name) for name in constraints.__all__) if isinstance(x, type)}
    assert exported == {type(example) for example in EXAMPLES}


@pytest.mark.mostly_long("FirstToken", "FrequencyPenalty", "SuppressedTokens")
def test_a_row_alone_equals_the_row_in_the_batch_and_compiled_equals_eager(constraint):
    together = np.asarray(follow(constraint, *map(ops.convert_to_tensor, (WRITTEN, LOG_PROBABILITIES))))
    again = compiled(lambda *inputs: follow(constraint, *inputs))(WRITTEN, LOG_PROBABILITIES)
    np.testing.assert_allclose(again, together, rtol=1e-6)
    for row in range(4):
        alone = follow(constraint, *map(ops.convert_to_tensor, (WRITTEN[row : row + 1], LOG_PROBABILITIES[:, [row]])))
        np.testing.assert_array_equal(np.asarray(alone)[:, 0], together[:, row])


def test_only_lowers(constraint):
    together = np.asarray(follow(constraint, *map(ops.convert_to_tensor, (WRITTEN, LOG_PROBABILITIES))))
    assert (together <= LOG_PROBABILITIES).all()
    assert (together >= np.float32(LOG_ZERO)).all()
    assert (together < LOG_PROBABILITIES).any()


def test_is_saved_and_loaded(constraint):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(constraint)))
    again = keras.saving.deserialize_keras_object(config)
    assert again == constraint
    assert hash(again) == hash(constraint)


def test_is_frozen(constraint):
    with pytest.raises(AttributeError):
        constraint.anything = 3
