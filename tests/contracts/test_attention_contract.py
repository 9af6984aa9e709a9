"""The contract of attention mechanisms, tested for each class in `kseq.attention.__all__`."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops, tree

import kseq.attention
from kseq.attention import (
    AdditiveAttention,
    Attention,
    CoverageAttention,
    DotProductAttention,
    LocalAttention,
    LocationSensitiveAttention,
    Memory,
    MonotonicAttention,
)
from kseq.attention.attention import NO_DRAWS
from tests.support import compiled, gradient

DIM = 4
LENGTHS = np.array([5, 2, 0])
RANDOM = np.random.default_rng(5)
MASK = np.arange(5)[None] < LENGTHS[:, None]
VALUES = RANDOM.normal(size=(3, 5, DIM)).astype("float32")
QUERIES = RANDOM.normal(size=(3, 2, DIM)).astype("float32")
WITH_NAN = np.where(MASK[..., None], VALUES, np.nan).astype("float32")

ON_EVERY_BACKEND = pytest.param(
    "float32", marks=pytest.mark.long_on_jax("AdditiveAttention", "MonotonicAttention", "MultiHeadAttention")
)
EXPORTED = {getattr(kseq.attention, name) for name in kseq.attention.__all__}
MECHANISMS = sorted((x for x in EXPORTED if issubclass(x, Attention) and x is not Attention), key=lambda x: x.__name__)


def make(kind, /, **options):
    """Return an instance, with small values for what the class requires."""
    signature = inspect.signature(kind).parameters.values()
    required = [x.name for x in signature if x.default is x.empty and x.kind is x.POSITIONAL_OR_KEYWORD]
    values = {"units": DIM, "mechanism": lambda: AdditiveAttention(DIM), "window": 1, "num_heads": 2, "key_dim": 3}
    made = {name: values[name] for name in required if name not in options}
    return kind(**{name: x() if callable(x) else x for name, x in {**made, **options}.items()})


def _inner():
    return LocationSensitiveAttention(DIM, filters=2, kernel_size=3)


CASES = {mechanism.__name__: (mechanism, {}) for mechanism in MECHANISMS} | {
    "AdditiveAttention, normalised": (AdditiveAttention, {"normalize": True}),
    "DotProductAttention, general": (DotProductAttention, {"general": True, "units": DIM}),
    "LocalAttention, predictive": (LocalAttention, {"position": "predictive"}),
    "MonotonicAttention, soft dot products": (MonotonicAttention, {"hard": False, "energy": "dot"}),
    "CoverageAttention, nested": (CoverageAttention, {"mechanism": lambda: LocalAttention(_inner(), 1)}),
}


@pytest.fixture(params=CASES)
def new(request):
    mechanism, options = CASES[request.param]
    return lambda **more: make(mechanism, **options, **more)


def attend(layer, queries, values=VALUES, mask=MASK):
    context, weights, _ = layer(queries, layer.memory(values, mask), layer.initial_state(*ops.shape(values)[:2]))
    return context, weights


def arrays(tensors):
    return [np.asarray(ops.cast(tensor, "float32")) for tensor in tensors]


def assert_close(got, expected, atol=1e-6):
    for one, other in zip(arrays(got), arrays(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=atol)


def test_shapes_for_one_query_and_for_many(new):
    layer = new()
    context, weights = attend(layer, QUERIES)
    assert context.shape == (3, 2, DIM)
    assert weights.shape == (3, 2, 5)
    context, weights = attend(layer, QUERIES[:, 0])
    assert context.shape == (3, DIM)
    assert weights.shape == (3, 5)


def test_many_queries_equal_one_after_the_other(new):
    layer = new()
    memory, state = layer.memory(VALUES, MASK), layer.initial_state(3, 5)
    together = attend(layer, QUERIES)
    for place in range(2):
        context, weights, state = layer(QUERIES[:, place], memory, state)
        assert_close((x[:, place] for x in together), (context, weights))


def test_a_step_of_hypotheses_equals_each_alone(new):
    layer = new()
    memory, start = layer.memory(VALUES, MASK), layer.initial_state(3, 5)
    _, _, state = layer(QUERIES[:, 1], memory, start)
    states = tree.map_structure(lambda x, y: ops.reshape(ops.stack([x, y], 1), (6, *x.shape[1:])), start, state)
    together = layer.step(QUERIES.reshape(6, DIM), memory, states)
    for place, own in enumerate((start, state)):
        expected = layer(QUERIES[:, place], memory, own)
        assert_close([x[place::2] for x in tree.flatten(together)], tree.flatten(expected))


@pytest.mark.parametrize(("queries", "time"), [(0, 5), (2, 0)])
def test_no_query_and_no_step_of_the_source_have_an_answer(new, queries, time):
    layer = new()
    attend(layer, QUERIES)  # creates the weights
    given = np.zeros((3, queries, DIM), "float32"), VALUES[:, :time]
    context, weights, state = layer(*given)
    assert context.shape == (3, queries, DIM)
    assert weights.shape == (3, queries, time)
    assert not np.asarray(context).any()
    if not queries:
        start = layer.initial_state(3, time)
        assert_close(tree.flatten(state), tree.flatten(start))
    found = gradient(lambda *x: ops.sum(layer(*x)[0]), *given)
    assert [each.shape for each in found] == [each.shape for each in given]


def test_only_a_mechanism_with_a_state_takes_one(new):
    layer = new()
    assert bool(tree.flatten(layer.initial_state(3, 5))) is not layer.stateless
    if layer.stateless:
        with pytest.raises(ValueError, match="has no state, but got one"):
            layer(QUERIES, layer.memory(VALUES, MASK), np.zeros((3, 5), "float32"))


def test_weights_are_a_distribution_over_the_real_steps(new):
    layer = new()
    _, weights = arrays(attend(layer, QUERIES))
    if layer.normalised:
        np.testing.assert_allclose(weights.sum(-1), [[1, 1], [1, 1], [0, 0]], atol=1e-6)
    assert (weights >= 0).all()
    assert (weights.sum(-1) <= 1 + 1e-6).all()
    assert (weights[~np.broadcast_to(MASK[:, None], weights.shape)] == 0).all()


@pytest.mark.parametrize("dtype", [ON_EVERY_BACKEND, "float16", "bfloat16", "mixed_float16"])
def test_a_row_without_a_real_step_gives_zeros(new, dtype):
    context, weights = arrays(attend(new(dtype=dtype), QUERIES, WITH_NAN))
    assert (context[2] == 0).all()
    assert (weights[2] == 0).all()
    assert np.isfinite(context).all()


@pytest.mark.parametrize("dtype", [ON_EVERY_BACKEND, "mixed_float16"])
def test_nan_in_the_padding_changes_nothing(new, dtype):
    layer = new(dtype=dtype)
    assert_close(attend(layer, QUERIES, WITH_NAN), attend(layer, QUERIES), atol=0)

    def total(queries, values):
        context, weights = attend(layer, queries, values)
        return ops.sum(ops.cast(context, "float32") ** 2) + ops.sum(ops.cast(weights, "float32") ** 2)

    got, expected = gradient(total, QUERIES, WITH_NAN), gradient(total, QUERIES, VALUES)
    assert_close(got, expected, atol=0)
    assert (np.asarray(got[1])[~MASK] == 0).all()


def test_nan_in_the_padding_changes_no_weights_gradient(new):
    import tensorflow as tf

    layer = new()
    attend(layer, QUERIES)

    def weight_gradients(values):
        with tf.GradientTape() as tape:
            total = ops.sum(attend(layer, QUERIES, values)[0] ** 2)
        gradients = tape.gradient(total, layer.trainable_variables)
        return [gradient for gradient in gradients if gradient is not None]  # None in hard attention

    assert_close(weight_gradients(WITH_NAN), weight_gradients(VALUES), atol=0)


def test_a_row_alone_equals_the_row_in_the_batch(new):
    layer = new()
    together = attend(layer, QUERIES)
    for row, length in enumerate(LENGTHS):
        alone = attend(layer, QUERIES[row : row + 1], VALUES[row : row + 1], MASK[row : row + 1])
        assert_close((x[row : row + 1] for x in together), alone)
        if length:  # the same row without its padding
            context, weights = attend(layer, QUERIES[row : row + 1], VALUES[row : row + 1, :length], None)
            assert_close((together[0][row : row + 1], together[1][row : row + 1, :, :length]), (context, weights))


@pytest.mark.parametrize("dtype", ["float16", "mixed_bfloat16"])
def test_half_precision_is_near(new, dtype):
    layer, half = new(), new(dtype=dtype)
    expected = attend(layer, QUERIES)
    attend(half, QUERIES)  # creates the weights
    half.set_weights(layer.get_weights())
    got = attend(half, QUERIES)
    assert all(keras.backend.standardize_dtype(x.dtype) == half.compute_dtype for x in got)
    # Contexts are sums of a few values near 1, with 8 bits in bfloat16 and 11 bits in float16.
    assert_close(got, expected, atol=4e-2 if "bfloat16" in dtype else 5e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_are_float32_before_they_are_rounded(new, dtype):
    """With 2,000 steps: a sum of that many weights is inaccurate in half precision."""
    layer = new(dtype=dtype)
    attend(layer, QUERIES)  # creates the weights
    memory = layer.memory(np.resize(VALUES, (3, 2_000, DIM)), None)
    query = ops.cast(QUERIES, layer.compute_dtype)
    weights, _ = layer.weigh_sequence(query, memory, layer.initial_state(3, 2_000))
    assert keras.backend.standardize_dtype(weights.dtype) == "float32"
    if layer.normalised:
        np.testing.assert_allclose(np.asarray(weights).sum(-1), np.ones((3, 2)), atol=1e-5)


@pytest.mark.mostly_long("DotProductAttention", "AdditiveAttention", "MultiHeadAttention")
@pytest.mark.every_backend
def test_compiled_equals_eager(new):
    layer = new()
    expected = attend(layer, QUERIES)
    assert_close(compiled(lambda queries, values: attend(layer, queries, values))(QUERIES, VALUES), expected)


@pytest.mark.mostly_long("DotProductAttention", "AdditiveAttention", "MultiHeadAttention")
def test_batch_and_times_may_be_unknown(new):
    import tensorflow as tf

    layer = new()
    expected = attend(layer, QUERIES)
    shapes = [(None, None, DIM), (None, None, DIM), (None, None)]
    signature = [tf.TensorSpec(s, t) for s, t in zip(shapes, ["float32", "float32", "bool"], strict=True)]
    traced = tf.function(lambda q, v, m: layer(q, layer.memory(v, m))[:2], input_signature=signature)
    assert_close(traced(QUERIES, VALUES, MASK), expected)
    context, weights = traced.get_concrete_function().outputs
    assert context.shape.as_list() == [None, None, DIM]
    assert weights.shape.as_list() == [None, None, None]
    assert traced(QUERIES[:0], VALUES[:0], MASK[:0])[0].shape == (0, 2, DIM)


@pytest.mark.mostly_long("DotProductAttention", "CoverageAttention")
def test_gradients_compiled_for_unknown_batch_and_times_are_those_of_eager_calls(new):
    """XLA must know all shapes, in the gradients of loops too: `fit(jit_compile=True)` over buckets needs it."""
    import tensorflow as tf

    layer = new()
    weigh = RANDOM.normal(size=QUERIES.shape).astype("float32")

    def gradients(queries, values, mask):
        with tf.GradientTape() as tape:
            tape.watch((queries, values))
            total = tf.reduce_sum(attend(layer, queries, values, mask)[0] * weigh)
        return tape.gradient(total, (queries, values), unconnected_gradients="zero")

    inputs = [tf.constant(each) for each in (QUERIES, VALUES, MASK)]
    signature = [tf.TensorSpec([None, None, *each.shape[2:]], each.dtype) for each in inputs]
    found = tf.function(gradients, input_signature=signature, jit_compile=True, autograph=False)(*inputs)
    assert_close(found, gradients(*inputs), atol=1e-5)


def test_config_makes_an_equal_layer(new):
    options: dict = {"dropout": 0.25, "name": "attend", "dtype": "float32"}
    if getattr(new(), "general", True) and getattr(new(), "position", "") != "monotonic":  # it has a matrix
        options |= {"kernel_initializer": "he_normal", "kernel_regularizer": "l2"}
    layer = new(**options)
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


@keras.saving.register_keras_serializable(package="kseq_tests")
class Reader(keras.Model):
    """A model that prepares the memory before the first query and builds its attention on first use."""

    def __init__(self, attention, **kwargs):
        super().__init__(**kwargs)
        self.attention = attention

    def call(self, inputs):
        queries, values, mask = inputs
        context, weights, _ = self.attention(queries, self.attention.memory(values, mask))
        return context, weights

    def get_config(self):
        return {"attention": keras.saving.serialize_keras_object(self.attention)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["attention"]))


def test_saves_and_loads_inside_a_model(new, tmp_path):
    model = Reader(new())
    expected = model((QUERIES, VALUES, MASK))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.weights) == len(model.weights)
    assert_close(loaded((QUERIES, VALUES, MASK)), expected)


@pytest.mark.mostly_long("DotProductAttention", "AdditiveAttention", "MultiHeadAttention")
def test_works_in_a_functional_model(new, tmp_path):
    query = keras.Input((None, DIM))
    values = keras.Input((None, DIM))
    mask = keras.Input((None,), dtype="bool")
    layer = new()
    context, weights, _ = layer(query, values, memory_mask=mask)
    assert context.shape == (None, None, DIM)
    assert weights.shape == (None, None, None)
    model = keras.Model([query, values, mask], [context, weights])
    expected = attend(layer, QUERIES)
    assert_close(model([QUERIES, VALUES, MASK]), expected)
    model.save(tmp_path / "model.keras")
    assert_close(keras.saving.load_model(tmp_path / "model.keras")([QUERIES, VALUES, MASK]), expected)


def test_the_implicit_mask_of_plain_values_is_honoured(new):
    layer = new()
    values = keras.layers.Masking()(np.where(MASK[..., None], VALUES, 0.0).astype("float32"))
    context, weights, _ = layer(QUERIES, values)
    assert_close((context, weights), attend(layer, QUERIES))


def test_a_memory_is_a_value(new):
    layer = new()
    memory = layer.memory(VALUES, MASK)
    assert isinstance(memory, Memory)
    attend(layer, QUERIES, -VALUES)
    context, _, _ = layer(QUERIES, memory)
    assert_close([context], attend(layer, QUERIES)[:1])


def test_dropout_drops_when_training_only(new):
    layer = new(dropout=0.5, seed=1)
    for training in (False, True):
        memory = layer.memory(VALUES, MASK)
        context, _, _ = layer(QUERIES, memory, training=training)
        undropped, _, _ = layer(QUERIES, memory, training=training, draws=NO_DRAWS)
        assert np.allclose(context, undropped, atol=1e-6) is not training


@pytest.mark.long
@pytest.mark.every_backend
def test_trains_in_fit(new):
    query, values = keras.Input((2, DIM)), keras.Input((5, DIM))
    context, _, _ = new(dropout=0.1)(query, values)
    model = keras.Model([query, values], keras.layers.Dense(1)(context))
    model.compile("adam", "mse")
    history = model.fit([QUERIES, VALUES], np.zeros((3, 2, 1)), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_says_what_is_wrong_with_shapes(new):
    layer = new()
    with pytest.raises(ValueError, match=r"values of shape \(batch, time, value_dim\), but got \(3, 4\)"):
        layer.memory(VALUES[:, 0])
    with pytest.raises(ValueError, match=r"mask has shape \(3, 4\)"):
        layer.memory(VALUES, MASK[:, :4])
    with pytest.raises(ValueError, match=r"query of shape .*, but got \(4,\)"):
        layer(QUERIES[0, 0], layer.memory(VALUES))


@pytest.mark.mostly_long("DotProductAttention", "AdditiveAttention", "MultiHeadAttention")
def test_a_functional_model_takes_the_values_and_not_a_memory(new, tmp_path):
    query, values, layer = keras.Input((DIM,)), keras.Input((None, DIM)), new()
    with pytest.raises(ValueError, match=r"Pass the values themselves: attention\(query, values\)"):
        layer(query, layer.memory(values))
    model = keras.Model([query, values], layer(query, values)[0])
    model.save(tmp_path / "model.keras")
    inputs = [QUERIES[:, 0], VALUES]
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "model.keras")(inputs), model(inputs), atol=1e-6)


def test_a_second_mask_is_refused(new):
    layer = new()
    memory = layer.memory(VALUES, MASK)
    with pytest.raises(ValueError, match=r"Give the mask to memory\(values, mask\)"):
        layer(QUERIES, memory, memory_mask=MASK)
