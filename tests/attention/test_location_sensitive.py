"""Location-sensitive attention, compared with its NumPy reference and on a task that needs the location."""

import keras
import numpy as np
import pytest
from keras import ops

from kseq.attention import AdditiveAttention, LocationSensitiveAttention
from tests.reference import attention as twin

RANDOM = np.random.default_rng(3)
QUERIES = RANDOM.normal(size=(2, 3, 4)).astype("float32")
VALUES = RANDOM.normal(size=(2, 5, 6)).astype("float32")
LENGTHS = (5, 2)
MASK = np.arange(5) < np.array(LENGTHS)[:, None]


@pytest.mark.every_backend
@pytest.mark.parametrize(("cumulative", "kernel_size"), [(True, 3), (False, 7)])
def test_equals_the_numpy_twin(cumulative, kernel_size):
    layer = LocationSensitiveAttention(7, filters=2, kernel_size=kernel_size, cumulative=cumulative)
    layer.build(QUERIES.shape, VALUES.shape)
    for weight in layer.weights:
        weight.assign(RANDOM.normal(size=weight.shape))
    _, weights, state = layer(QUERIES, layer.memory(VALUES, MASK))
    named = {weight.path.split("/", 1)[1]: np.asarray(weight) for weight in layer.weights}
    names = ("query/kernel", "query/bias", "memory/kernel", "v")
    for row, length in enumerate(LENGTHS):
        expected = twin.attend_by_weights(
            lambda query, value, extra: twin.additive_score(query, value, *(named[n] for n in names), extra=extra),
            QUERIES[row],
            VALUES[row, :length],
            extra=lambda seen: twin.location_features(seen, named["filter_kernel"]) @ named["location_kernel"],
            combine=np.add if cumulative else lambda seen, weights: weights,
        )
        np.testing.assert_allclose(np.asarray(weights)[row, :, :length], expected, atol=1e-6)
        np.testing.assert_allclose(
            np.asarray(state)[row, :length], expected.sum(0) if cumulative else expected[-1], atol=1e-6
        )


def errors_after_training(attention):
    """Return the share of wrong symbols after training to copy random symbols, all but the first one for equal queries.

    Only the location tells which of the equal symbols comes next.
    """
    symbols = np.random.default_rng(0).integers(1, 3, size=(64, 6))
    symbols[:, 0] = 0
    values = np.eye(3, dtype="float32")[symbols]
    queries = np.zeros((64, 6, 2), "float32")
    queries[:, 0, 0], queries[:, 1:, 1] = 1.0, 1.0
    query, value = keras.Input((6, 2)), keras.Input((6, 3))
    context, _, _ = attention(query, value)
    model = keras.Model([query, value], ops.log(context + 1e-6))  # the context is a distribution over the symbols
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.1), loss, run_eagerly=True)  # to trace a graph takes longer
    for _ in range(30):
        model.train_on_batch([queries, values], symbols)
    return np.mean(np.argmax(model.predict_on_batch([queries, values]), -1) != symbols)


@pytest.mark.long
def test_finds_the_diagonal_where_content_alone_cannot():
    keras.utils.set_random_seed(1)
    assert errors_after_training(AdditiveAttention(16)) > 0.2
    assert errors_after_training(LocationSensitiveAttention(16, filters=4, kernel_size=3, cumulative=False)) < 0.02


def test_refuses_an_even_kernel_size_and_other_wrong_options():
    with pytest.raises(ValueError, match=r"kernel_size=4, but LocationSensitiveAttention needs an odd number.* Use 5"):
        LocationSensitiveAttention(3, kernel_size=4)
    with pytest.raises(ValueError, match="filters=0, but LocationSensitiveAttention needs a positive int"):
        LocationSensitiveAttention(3, filters=0)


def test_the_first_state_has_the_memorys_time():
    with pytest.raises(ValueError, match=r"needs the number of the memory's steps: initial_state\(batch, time\)"):
        LocationSensitiveAttention(3).initial_state(2)
