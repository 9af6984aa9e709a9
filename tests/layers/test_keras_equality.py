"""kseq's layers against Keras's: equal outputs, states and gradients with the same weights, to 1e-5 in float32."""

import keras
import numpy as np
import pytest

import kseq
from tests.support import assert_all_close, keras_may_lose_masks, outputs_and_gradients

pytestmark = keras_may_lose_masks
BATCH, TIME, FEATURES, UNITS = 3, 6, 5, 4
KINDS = ["SimpleRNN", "GRU", "LSTM"]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
MASKS = {
    "no mask": None,
    "padding": np.arange(TIME)[None] < np.array([[6], [3], [1]]),
    "holes": np.array([[1, 0, 1, 1, 0, 1], [1, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 1]], bool),
    "starts padded": np.arange(TIME)[None] >= np.array([[0], [2], [6]]),
}


def pair(kind, **options):
    """Keras's layer and ours, with the same random weights."""
    layers = [getattr(library.layers, kind)(UNITS, **options) for library in (keras, kseq)]
    for layer in layers:
        layer.build((None, TIME, FEATURES))
    random = np.random.default_rng(1)
    weights = [random.normal(size=w.shape).astype("float32") / 2 for w in layers[0].get_weights()]
    for layer in layers:
        layer.set_weights(weights)
    return layers


def compare(theirs, ours, **call):
    expected = outputs_and_gradients(theirs, X, training=True, **call)
    got = outputs_and_gradients(ours, X, training=True, **call)
    assert_all_close(got[0], expected[0], atol=1e-5)
    assert_all_close(got[1], expected[1], atol=1e-5, rtol=1e-5)


def states(count):
    random = np.random.default_rng(2)
    return [random.normal(size=(BATCH, UNITS)).astype("float32") for _ in range(count)]


# Every pair of a kind, a mask, return_sequences, go_backwards and given_state is in one of the cases.
CASES = [
    ("SimpleRNN", "no mask", False, False, False),
    ("SimpleRNN", "padding", True, True, True),
    ("SimpleRNN", "holes", True, False, False),
    ("SimpleRNN", "starts padded", False, True, True),
    ("GRU", "no mask", True, True, False),
    ("GRU", "padding", False, False, True),
    ("GRU", "holes", False, True, True),
    ("GRU", "starts padded", True, False, False),
    ("LSTM", "no mask", True, False, True),
    ("LSTM", "padding", False, True, False),
    ("LSTM", "holes", True, True, True),
    ("LSTM", "starts padded", False, False, False),
    ("LSTM", "starts padded", True, True, True),
    ("GRU", "padding", True, False, False),
]
# No case has both padding first and a given state: Keras's loop on JAX returns that state as the output there.
ON_JAX = [("SimpleRNN", "no mask"), ("GRU", "padding"), ("LSTM", "no mask"), ("LSTM", "padding"), ("LSTM", "holes")]


@pytest.mark.parametrize(
    ("kind", "mask", "return_sequences", "go_backwards", "given_state"),
    [pytest.param(*case, marks=[pytest.mark.long_on_jax("GRU")] * (case[:2] in ON_JAX)) for case in CASES],
)
def test_outputs_states_and_gradients(kind, mask, return_sequences, go_backwards, given_state):
    theirs, ours = pair(kind, return_sequences=return_sequences, return_state=True, go_backwards=go_backwards)
    initial = states(len(ours.state_size)) if given_state else None
    compare(theirs, ours, mask=MASKS[mask], initial_state=initial)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("go_backwards", [False, True])
def test_zero_output_for_mask(kind, go_backwards):
    options = {"return_sequences": True, "return_state": True, "zero_output_for_mask": True}
    compare(*pair(kind, go_backwards=go_backwards, **options), mask=MASKS["holes"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("go_backwards", [False, True])
def test_unrolled(kind, go_backwards):
    options = {"return_sequences": True, "return_state": True, "unroll": True}
    compare(*pair(kind, go_backwards=go_backwards, **options), mask=MASKS["padding"])


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTM", {"use_bias": False}),
        ("LSTM", {"activation": "relu", "recurrent_activation": "hard_sigmoid"}),
        ("LSTM", {"activation": None, "unit_forget_bias": False}),
        ("GRU", {"use_bias": False}),
        ("GRU", {"reset_after": False}),
        ("GRU", {"reset_after": False, "use_bias": False, "activation": "relu"}),
        ("GRU", {"activation": "relu"}),
        ("SimpleRNN", {"activation": "relu", "use_bias": False}),
    ],
    ids=str,
)
def test_options(kind, options):
    compare(*pair(kind, return_sequences=True, return_state=True, **options), mask=MASKS["padding"])


@pytest.mark.mostly_long("concat-GRU-False")
@pytest.mark.parametrize(
    ("merge_mode", "kind", "return_sequences"),
    [
        ("concat", "GRU", False),
        ("concat", "LSTM", True),
        ("sum", "GRU", True),
        ("ave", "LSTM", False),
        ("mul", "GRU", True),
        (None, "LSTM", True),
        (None, "GRU", False),
    ],
)
def test_bidirectional(kind, merge_mode, return_sequences):
    layers = []
    for library in (keras, kseq):
        layer = getattr(library.layers, kind)(UNITS, return_sequences=return_sequences, return_state=True)
        layers.append(library.layers.Bidirectional(layer, merge_mode=merge_mode))
        layers[-1].build((None, TIME, FEATURES))
    random = np.random.default_rng(1)
    weights = [random.normal(size=w.shape) / 2 for w in layers[0].get_weights()]
    for layer in layers:
        layer.set_weights(weights)
    compare(*layers, mask=MASKS["padding"])
    compare(*layers, mask=None, initial_state=states(4 if kind == "LSTM" else 2))
    symbolic = layers[1](keras.Input((TIME, FEATURES)))
    shapes = [tuple(s.shape)[1:] for s in keras.tree.flatten(symbolic)]
    assert shapes == [o.shape[1:] for o in outputs_and_gradients(layers[1], X)[0]]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_have_keras_names_shapes_and_order(kind):
    theirs, ours = pair(kind)
    assert [(w.name, tuple(w.shape)) for w in ours.weights] == [(w.name, tuple(w.shape)) for w in theirs.weights]
    assert [w.path.split("/", 1)[1] for w in ours.weights] == [w.path.split("/", 1)[1] for w in theirs.weights]


@pytest.mark.parametrize("kind", KINDS)
def test_keras_bidirectional_over_our_layer(kind):
    theirs = keras.layers.Bidirectional(getattr(keras.layers, kind)(UNITS, return_sequences=True))
    ours = keras.layers.Bidirectional(getattr(kseq.layers, kind)(UNITS, return_sequences=True))
    for layer in (theirs, ours):
        layer.build((None, TIME, FEATURES))
    ours.set_weights(theirs.get_weights())
    assert isinstance(ours.backward_layer, getattr(kseq.layers, kind))
    compare(theirs, ours, mask=MASKS["padding"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: kseq.layers.GRU(UNITS, return_sequences=True),
        lambda: kseq.layers.Bidirectional(kseq.layers.LSTM(UNITS, return_sequences=True)),
        lambda: kseq.layers.Bidirectional(keras.layers.GRU(UNITS, return_sequences=True)),
        lambda: kseq.layers.StackedRNN([keras.layers.GRU(UNITS), kseq.layers.GRU(UNITS)], return_sequences=True),
    ],
    ids=["GRU", "Bidirectional", "Bidirectional over Keras", "StackedRNN over Keras"],
)
def test_the_next_layer_gets_the_mask(make):
    """With Keras 3.16 too, whose own layers lose it with a warning (`make test-nightly`)."""
    ids = keras.Input((None,), dtype="int32")
    model = keras.Model(ids, kseq.layers.GRU(3)(make()(keras.layers.Embedding(9, FEATURES, mask_zero=True)(ids))))
    padded = model(np.array([[3, 5, 2, 0, 0], [1, 2, 3, 4, 5]]))
    np.testing.assert_allclose(padded[:1], model(np.array([[3, 5, 2]])), atol=1e-6)
