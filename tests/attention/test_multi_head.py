"""Multi-head attention, compared with Keras's layers and with its NumPy reference."""

import keras
import numpy as np
import pytest
from keras import ops

from kseq.attention import Memory, MultiHeadAttention
from tests.reference import attention as twin
from tests.support import assert_all_close, compiled, gradient

RANDOM = np.random.default_rng(4)
BATCH, TIME, DIM = 3, 5, 6
VALUES = RANDOM.normal(size=(BATCH, TIME, DIM)).astype("float32")
QUERIES = RANDOM.normal(size=(BATCH, 2, DIM)).astype("float32")
OUTER = RANDOM.normal(size=(BATCH, TIME, DIM)).astype("float32")
MASK = np.arange(TIME)[None] < np.array([5, 3, 0])[:, None]
WITH_STEPS = MASK | ~MASK[:, :1]  # in rows without a real step, Keras answers with the mean of the padding
POSITIONS = [{}, {"positions": "rotary"}, {"positions": "relative", "max_distance": 2}]


def drawn(layer):
    """Build a layer, draw its weights, biases included, and return it."""
    layer.build(VALUES.shape, VALUES.shape)
    random = np.random.default_rng(2)
    layer.set_weights([random.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def both(causal=False, **options):
    """Return a layer and Keras's with the same weights."""
    layer = drawn(MultiHeadAttention(4, 2, causal=causal, **options))
    if "num_kv_heads" in options:
        of_keras = keras.layers.GroupQueryAttention(2, 4, options["num_kv_heads"])
    else:
        of_keras = keras.layers.MultiHeadAttention(
            4, 2, options.get("value_dim"), output_shape=options.get("output_dim")
        )
    of_keras.build(VALUES.shape, VALUES.shape)
    of_keras.set_weights(layer.get_weights())
    return layer, of_keras


def with_gradients(attend, layer, *inputs, real=True):
    """Return outputs where `real` is True, and the gradients with respect to inputs and weights."""
    import tensorflow as tf

    tensors = [tf.convert_to_tensor(each) for each in inputs]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        outputs = ops.where(real, attend(*tensors), 0.0)
        total = ops.sum(outputs * OUTER[:, : outputs.shape[1], : outputs.shape[2]])
    return [outputs, *tape.gradient(total, [*tensors, *layer.trainable_variables])]


def gradient_in_graph(function, values):
    import tensorflow as tf

    values = tf.convert_to_tensor(values)
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = function(values)
    return tape.gradient(total, values)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("options", [{}, {"num_kv_heads": 2}, {"value_dim": 3, "output_dim": 5}])
def test_self_attention_equals_keras(causal, options):
    layer, of_keras = both(causal, **options)
    got = with_gradients(lambda x: layer(x, x)[0], layer, VALUES)
    expected = with_gradients(lambda x: of_keras(x, x, use_causal_mask=causal), of_keras, VALUES)
    assert_all_close(got, expected, atol=2e-4)
    allowed, real = WITH_STEPS[:, None] & np.ones((TIME, 1), bool), WITH_STEPS[..., None]
    got = with_gradients(lambda x: layer(x, x, memory_mask=WITH_STEPS)[0], layer, VALUES, real=real)
    expected = with_gradients(
        lambda x: of_keras(x, x, attention_mask=allowed, use_causal_mask=causal), of_keras, VALUES, real=real
    )
    assert_all_close(got, expected, atol=2e-4)


@pytest.mark.parametrize("options", [{}, {"num_kv_heads": 1}])
def test_cross_attention_equals_keras(options):
    layer, of_keras = both(**options)
    got = with_gradients(lambda q, v: layer(q, layer.memory(v, WITH_STEPS))[0], layer, QUERIES, VALUES)
    allowed = WITH_STEPS[:, None] & np.ones((2, 1), bool)
    expected = with_gradients(lambda q, v: of_keras(q, v, attention_mask=allowed), of_keras, QUERIES, VALUES)
    assert_all_close(got, expected, atol=1e-4)


ON_BOTH = pytest.param(*({"positions": "relative", "max_distance": 2}, True), marks=pytest.mark.long_on_jax)


@pytest.mark.parametrize(("options", "causal"), [ON_BOTH, *((each, False) for each in POSITIONS), (POSITIONS[1], True)])
def test_equals_the_numpy_twin(options, causal):
    layer = drawn(MultiHeadAttention(4, 2, num_kv_heads=2, causal=causal, **options))
    context, weights, _ = layer(VALUES, VALUES, memory_mask=MASK)
    own = np.where(MASK[..., None], VALUES, 0)
    weights_of_layer = layer.get_weights()
    if layer.positions == "relative":  # Keras lists a layer's own weights before those of its parts
        weights_of_layer = [*weights_of_layer[1:], weights_of_layer[0]]
    expected = twin.multi_head(own, weights_of_layer, positions=layer.positions, causal=causal, mask=MASK)
    np.testing.assert_allclose(np.asarray(context)[MASK], expected[0][MASK], atol=1e-4)
    np.testing.assert_allclose(np.asarray(weights)[MASK], expected[1][MASK], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "room"),
    [
        ({"num_kv_heads": 2}, TIME),
        pytest.param(POSITIONS[1], TIME + 3, marks=pytest.mark.long_on_jax),
        (POSITIONS[2], TIME + 3),
    ],
)
def test_steps_equal_the_whole_in_outputs_and_gradients(options, room):
    layer = drawn(MultiHeadAttention(4, 2, causal=True, head_weights=True, **options))

    def stepwise(values):
        cache, contexts, weights = layer.cache(BATCH, room), [], []
        for position in range(TIME):
            context, shown, cache = layer.cached_step(values[:, position], cache)
            contexts.append(context)
            weights.append(shown)
        return ops.stack(contexts, axis=1), ops.stack(weights, axis=2)

    def of(run):
        def total(values):
            context, weights = run(values)
            return ops.sum(context * OUTER) + ops.sum(weights[..., :2] ** 2)

        return total

    got, expected = stepwise(VALUES), layer(VALUES, VALUES)[:2]
    np.testing.assert_allclose(got[0], expected[0], atol=1e-4)
    np.testing.assert_allclose(got[1][..., :TIME], expected[1], atol=1e-5)
    assert not np.asarray(got[1][..., TIME:]).any()
    assert_all_close(gradient(of(stepwise), VALUES), gradient(of(lambda x: layer(x, x)[:2]), VALUES), atol=1e-3)


@pytest.mark.long
def test_compiled_steps_equal_the_whole_in_outputs_and_gradients():
    """Compiled, a step writes into the cache by another operation, which has a gradient of its own."""
    layer = drawn(MultiHeadAttention(4, 2, causal=True))

    def last(values):
        cache = layer.cache(BATCH, 3)
        for position in range(2):
            context, _, cache = layer.cached_step(values[:, position], cache)
        return context

    def of(run):
        return lambda values: gradient_in_graph(lambda x: ops.sum(run(x) * OUTER[:, 0]), values)

    got = compiled(of(last))(VALUES)
    expected = of(lambda x: layer(x[:, :2], x[:, :2])[0][:, 1])(VALUES)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    np.testing.assert_allclose(compiled(last)(VALUES), layer(VALUES, VALUES)[0][:, 1], atol=1e-4)


def test_hypotheses_attend_to_their_own_past_in_the_places_of_others():
    """Two hypotheses of each of two rows swap their pasts, instead of their caches, before the third position."""
    layer = drawn(MultiHeadAttention(4, 2, num_kv_heads=2, causal=True, positions="relative"))
    texts = RANDOM.normal(size=(4, 3, DIM)).astype("float32")  # (rows, time, dim), two rows of a batch
    apart = layer.cache(4, 3)
    for position in range(2):
        _, _, apart = layer.cached_step(texts[:, position], apart)
    keys, values = (ops.reshape(x, (2, 4, 3, 2)) for x in apart[:2])  # (batch, places * heads, room, dim)
    other = np.array([1, 0])
    past = np.zeros((2, 2, 2, 3), bool)  # by place, hypothesis and position
    past[:, other, [0, 1], :2] = True
    past[:, [0, 1], [0, 1], 2] = True
    context, weights, cache = layer.cached_step(texts[:, 2], apart._replace(keys=keys, values=values), seen=past)
    assert cache.keys.shape == (2, 4, 3, 2)
    swapped = np.concatenate([texts[[1, 0, 3, 2], :2], texts[:, 2:]], axis=1)
    expected = layer(swapped, swapped)
    np.testing.assert_allclose(context, expected[0][:, 2], atol=1e-5)
    np.testing.assert_allclose(weights, expected[1][:, 2], atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("causal", [False, True])
def test_nan_in_the_padding_of_self_attention_changes_nothing(causal, dtype):
    layer = MultiHeadAttention(2, 2, causal=causal, dtype=dtype)
    drawn(layer)
    mask = np.arange(TIME)[None] >= np.array([0, 2, 5])[:, None]  # at the start, where causal queries see nothing
    masked = np.where(mask[..., None], VALUES, np.nan).astype("float32")

    def attend(values):
        values = ops.cast(values, layer.compute_dtype)
        return layer(values, values, memory_mask=mask)

    got, expected = attend(masked), attend(VALUES)
    for one, other in zip(got[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(ops.cast(one, "float32"), ops.cast(other, "float32"))
    assert not np.asarray(ops.cast(got[1][2], "float32")).any()
    if causal:
        assert not np.asarray(ops.cast(got[1][1, :2], "float32")).any()

    def total(values):
        return ops.sum(ops.cast(attend(values)[0], "float32") ** 2)

    of_padding = gradient(total, masked)
    assert_all_close(of_padding, gradient(total, VALUES), atol=0)
    assert not of_padding[0][~mask].any()


def test_head_weights_are_those_of_all_heads():
    layer = drawn(MultiHeadAttention(4, 2))
    each = MultiHeadAttention.from_config({**layer.get_config(), "head_weights": True})
    each.build(QUERIES.shape, VALUES.shape)
    each.set_weights(layer.get_weights())
    weights = each(QUERIES, each.memory(VALUES, MASK))[1]
    assert weights.shape == (BATCH, 4, 2, TIME)
    mean = layer(QUERIES, layer.memory(VALUES, MASK))[1]
    np.testing.assert_allclose(np.mean(weights, axis=1), mean, atol=1e-6)
    one = each(QUERIES[:, 0], each.memory(VALUES, MASK))[1]
    np.testing.assert_allclose(one, weights[:, :, 0], atol=1e-6)
    assert not np.asarray(weights[2]).any()


def test_a_full_cache_is_refused_and_in_a_graph_gives_nan():
    layer = drawn(MultiHeadAttention(2, 2, causal=True))
    cache = layer.cache(BATCH, 1)
    _, _, cache = layer.cached_step(VALUES[:, 0], cache)
    with pytest.raises(ValueError, match=r"room for 1 positions, and all of them are written\. .*cache\(batch"):
        layer.cached_step(VALUES[:, 1], cache)
    context = compiled(lambda values, cache: layer.cached_step(values, cache)[0])(VALUES[:, 1], cache)
    assert np.isnan(context).all()


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"num_heads=4 is no multiple of num_kv_heads=3"):
        MultiHeadAttention(4, 2, num_kv_heads=3)
    with pytest.raises(ValueError, match="key_dim=3, but positions='rotary' rotates pairs"):
        MultiHeadAttention(4, 3, positions="rotary")
    with pytest.raises(ValueError, match=r"positions='absolute', but it must be None or one of"):
        MultiHeadAttention(4, 3, positions="absolute")
    with pytest.raises(ValueError, match="max_distance=3 applies to positions='relative'"):
        MultiHeadAttention(4, 2, max_distance=3)
    with pytest.raises(ValueError, match="num_heads=0, but MultiHeadAttention needs a positive int"):
        MultiHeadAttention(0, 2)


@pytest.mark.parametrize("option", [{"causal": True}, {"positions": "rotary"}, {"positions": "relative"}])
def test_positions_are_those_of_one_sequence(option):
    layer = MultiHeadAttention(2, 2, **option)
    memory = layer.memory(VALUES)
    assert isinstance(memory, Memory)
    for query, given in ((VALUES, memory), (QUERIES, VALUES), (VALUES[:, 0], VALUES)):
        with pytest.raises(ValueError, match=r"compares the positions of one sequence.*attention\(values, values\)"):
            layer(query, given)


@pytest.mark.every_backend
@pytest.mark.parametrize("options", [{"causal": True}, *POSITIONS[1:]])
def test_self_attention_of_no_step_is_empty(options):
    layer = MultiHeadAttention(2, 2, **options)
    layer.build(VALUES.shape, VALUES.shape)
    values = ops.convert_to_tensor(VALUES[:, :0])
    context, weights, _ = layer(values, values)
    assert (context.shape, weights.shape) == ((BATCH, 0, DIM), (BATCH, 0, 0))


@pytest.mark.every_backend
def test_a_memory_of_no_step_is_like_one_of_padding_alone():
    layer = drawn(MultiHeadAttention(2, 2))
    context, weights, _ = layer(QUERIES, VALUES[:, :0])
    assert weights.shape == (BATCH, 2, 0)
    np.testing.assert_array_equal(context, layer(QUERIES, VALUES, memory_mask=np.zeros((BATCH, TIME), bool))[0])


def test_a_step_needs_a_causal_layer():
    layer = MultiHeadAttention(2, 2)
    with pytest.raises(ValueError, match="causal=True"):
        layer.cached_step(VALUES[:, 0], layer.cache(BATCH, 3))


def test_initial_kernels_are_as_large_as_those_of_matrices():
    layer = MultiHeadAttention(4, 64)
    layer.build((None, None, 256), (None, None, 256))
    kernel = layer.query_layer.kernel.numpy()
    assert kernel.shape == (256, 4, 64)
    np.testing.assert_allclose(np.abs(kernel).max(), np.sqrt(6 / 512), rtol=0.01)
