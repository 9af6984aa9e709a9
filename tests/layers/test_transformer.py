"""Layers of Transformers, compared with keras-hub's and with their own steps."""

import math

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.masking import implicit_mask
from tests.support import assert_all_close, gradient, traced

DIM, TIME = 8, 5
RANDOM = np.random.default_rng(3)
VALUES = RANDOM.normal(size=(3, TIME, DIM)).astype("float32")
SOURCE = RANDOM.normal(size=(3, 4, 3)).astype("float32")
OUTER = RANDOM.normal(size=(3, TIME, DIM)).astype("float32")
MASK = np.arange(TIME)[None] < np.array([5, 2, 0])[:, None]
SOURCE_MASK = np.arange(4)[None] < np.array([4, 1, 0])[:, None]
OPTIONS = [
    {},
    {"norm_first": True, "activation": "swiglu", "num_kv_heads": 1, "positions": "rotary"},
    {"activation": "gelu", "positions": "relative", "cross_attention": False},
]


def drawn(layer, *shapes):
    layer.build(*shapes)
    random = np.random.default_rng(1)
    layer.set_weights([w + 0.5 * random.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def encoder_layer(**options):
    return drawn(kseq.layers.TransformerEncoderLayer(2, 7, **options), VALUES.shape)


def decoder_layer(**options):
    shapes = [VALUES.shape] if options.get("cross_attention") is False else [VALUES.shape, SOURCE.shape]
    return drawn(kseq.layers.TransformerDecoderLayer(2, 7, **options), *shapes)


def of(layer):
    """Return a function from values, their mask and the mask of the source to outputs."""
    if isinstance(layer, kseq.layers.TransformerEncoderLayer):
        return lambda values, mask, _: layer(values, mask=mask)
    if not layer.cross_attention:
        return lambda values, mask, _: layer(values, mask=mask)
    return lambda values, mask, source_mask: layer(values, SOURCE, mask=mask, source_mask=source_mask)


LAYERS = [encoder_layer, decoder_layer]


def copied(ours, theirs, attentions):
    """Give keras-hub's layer the weights of ours."""
    for own, name in attentions:
        getattr(theirs, f"_{name}_layer").set_weights(getattr(ours, own).get_weights())
        norm = "attention_norm" if own != "source_attention" else "source_norm"
        getattr(theirs, f"_{name}_layer_norm").set_weights(getattr(ours, norm).get_weights())
    theirs._feedforward_layer_norm.set_weights(ours.feed_forward_norm.get_weights())
    weights = ours.feed_forward.get_weights()
    theirs._feedforward_intermediate_dense.set_weights(weights[:2])
    theirs._feedforward_output_dense.set_weights(weights[2:])


@pytest.mark.long
@pytest.mark.parametrize("norm_first", [False, True])
def test_layers_equal_those_of_keras_hub(norm_first):
    import keras_hub

    real = MASK | ~MASK[:, :1]
    options = {"activation": lambda x: ops.gelu(x, approximate=False), "normalize_first": norm_first}
    ours = encoder_layer(activation="gelu", norm_first=norm_first)
    theirs = keras_hub.layers.TransformerEncoder(7, 2, **options)
    theirs(VALUES)
    copied(ours, theirs, [("attention", "self_attention")])
    got, expected = ours(VALUES, mask=real), theirs(VALUES, padding_mask=real)
    np.testing.assert_allclose(np.asarray(got)[real], np.asarray(expected)[real], atol=1e-4)

    source = np.pad(SOURCE, [(0, 0), (0, 0), (0, DIM - 3)])  # keras-hub needs values of one size
    ours = drawn(
        kseq.layers.TransformerDecoderLayer(2, 7, activation="gelu", norm_first=norm_first), VALUES.shape, source.shape
    )
    theirs = keras_hub.layers.TransformerDecoder(7, 2, **options)
    theirs(VALUES, source)
    copied(ours, theirs, [("self_attention", "self_attention"), ("source_attention", "cross_attention")])
    np.testing.assert_allclose(ours(VALUES, source), theirs(VALUES, source), atol=1e-4)


@pytest.mark.parametrize("activation", ["relu", "gelu", "swish", "swiglu"])
def test_the_feed_forward_part_equals_its_equations(activation):
    layer = encoder_layer(activation=activation).feed_forward
    kernel, bias, output_kernel, output_bias = layer.get_weights()
    wide = VALUES[0, 0] @ kernel + bias
    inner = {
        "relu": lambda x: np.maximum(x, 0),
        "gelu": lambda x: x * np.array([0.5 * (1 + math.erf(each / math.sqrt(2))) for each in x]),
        "swish": lambda x: x / (1 + np.exp(-x)),
        "swiglu": lambda x: x[:7] / (1 + np.exp(-x[:7])) * x[7:],
    }[activation](wide)
    np.testing.assert_allclose(layer(VALUES)[0, 0], inner @ output_kernel + output_bias, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("options", OPTIONS)
def test_steps_equal_the_whole_in_outputs_and_gradients(options):
    layer = decoder_layer(**options)
    room = TIME + 2 if layer.norm_first else TIME

    def stepwise(values, source):
        memory = layer.memory(source, SOURCE_MASK) if layer.cross_attention else None
        cache, outputs = layer.cache(3, room), []
        for position in range(TIME):
            each, _, cache = layer.step(values[:, position], cache, memory)
            outputs.append(each)
        return ops.stack(outputs, axis=1)

    def whole(values, source):
        return layer(values, source, source_mask=SOURCE_MASK) if layer.cross_attention else layer(values)

    np.testing.assert_allclose(stepwise(VALUES, SOURCE), whole(VALUES, SOURCE), atol=1e-4)
    got, expected = (gradient(lambda *x, f=f: ops.sum(f(*x) * OUTER), VALUES, SOURCE) for f in (stepwise, whole))
    assert_all_close(got, expected, atol=1e-3)


def test_alignments_of_a_step_are_weights_on_the_source():
    layer = decoder_layer()
    _, alignments, _ = layer.step(VALUES[:, 0], layer.cache(3, 1), layer.memory(SOURCE, SOURCE_MASK))
    np.testing.assert_allclose(np.sum(alignments, axis=1), [1, 1, 0], atol=1e-6)
    assert not np.asarray(alignments)[~SOURCE_MASK].any()
    layer = decoder_layer(cross_attention=False)
    assert layer.step(VALUES[:, 0], layer.cache(3, 1))[1] is None


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize("options", [{}, {"norm_first": True, "positions": "rotary"}])
def test_padding_changes_neither_real_steps_nor_gradients(make, options):
    layer = make(**options)
    run = of(layer)
    expected = np.asarray(run(VALUES, MASK, SOURCE_MASK))
    with_nan = np.where(MASK[..., None], VALUES, np.nan).astype("float32")
    np.testing.assert_allclose(np.asarray(run(with_nan, MASK, SOURCE_MASK))[MASK], expected[MASK], atol=1e-5)

    def total(values):
        return ops.sum(run(values, MASK, SOURCE_MASK) * OUTER * MASK[..., None])

    (got,), (of_values,) = gradient(total, with_nan), gradient(total, VALUES)
    np.testing.assert_array_equal(got, of_values)
    assert not got[~MASK].any()
    if make is encoder_layer:
        np.testing.assert_allclose(layer(VALUES[1:2, :2])[0], expected[1, :2], atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("make", LAYERS)
def test_half_precision_is_near(make):
    layer, half = make(), make(dtype="mixed_float16")
    half.set_weights(layer.get_weights())
    expected = np.asarray(of(layer)(VALUES, MASK, SOURCE_MASK))
    got = traced(of(half))(VALUES, MASK, SOURCE_MASK)
    assert keras.backend.standardize_dtype(got.dtype) == half.compute_dtype
    np.testing.assert_allclose(np.asarray(ops.cast(got, "float32"))[MASK], expected[MASK], atol=0.03)


@pytest.mark.parametrize("make", [*LAYERS, lambda **options: decoder_layer(cross_attention=False, **options)])
def test_works_in_a_functional_model_with_implicit_masks(make, tmp_path):
    ids, source_ids = (keras.Input((None,), dtype="int32") for _ in range(2))
    values = keras.layers.Embedding(9, DIM, mask_zero=True)(ids)
    source = keras.layers.Embedding(9, 3, mask_zero=True)(source_ids)
    config = make(dropout=0.1, seed=1).get_config()
    layer = (type(make())).from_config({**config, "name": "of_model"})
    needs_source = getattr(layer, "cross_attention", False)
    outputs = layer(values, source) if needs_source else layer(values)
    model = keras.Model([ids, source_ids], kseq.layers.SequencePooling("mean")(outputs))
    rows = np.array([[3, 4, 0, 0], [1, 2, 3, 4]], "int32"), np.array([[3, 0], [4, 5]], "int32")
    expected = model(rows)
    np.testing.assert_allclose(model([rows[0][:1, :2], rows[1][:1, :1]])[0], expected[0], atol=1e-5)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "model.keras")(rows), expected, atol=1e-6)
    assert not np.allclose(model(rows, training=True), expected, atol=1e-4)
    inputs = (VALUES, SOURCE) if needs_source else (VALUES,)
    np.testing.assert_array_equal(implicit_mask(make()(*inputs, mask=MASK)), MASK)


@pytest.mark.long
def test_wrong_arguments_are_refused():
    layer = kseq.layers.TransformerEncoderLayer(3, 7)
    with pytest.raises(ValueError, match=r"num_heads=3 heads, but their last axis has the size 8"):
        layer(VALUES)
    with pytest.raises(ValueError, match=r"mask has shape \(3, 4\)"):
        encoder_layer()(VALUES, mask=MASK[:, :4])
    with pytest.raises(ValueError, match=r"source_mask has shape \(3, 5\)"):
        decoder_layer()(VALUES, SOURCE, source_mask=MASK)
    with pytest.raises(ValueError, match=r"\(batch, time, dim\), but got \(3, 8\)"):
        encoder_layer()(VALUES[:, 0])
    with pytest.raises(ValueError, match="cross_attention=True needs a source"):
        kseq.layers.TransformerDecoderLayer(2, 7)(VALUES)
    with pytest.raises(ValueError, match="cross_attention=False got a source"):
        decoder_layer(cross_attention=False)(VALUES, SOURCE)
    with pytest.raises(ValueError, match="cross_attention=True got no source"):
        decoder_layer()(VALUES)
    with pytest.raises(ValueError, match="activation='tanh', but it must be one of"):
        kseq.layers.TransformerEncoderLayer(2, 7, activation="tanh")
    with pytest.raises(ValueError, match="no multiple of num_kv_heads=2"):
        kseq.layers.TransformerEncoderLayer(3, 7, num_kv_heads=2)
    layer = decoder_layer(cross_attention=False)
    _, _, cache = layer.step(VALUES[:, 0], layer.cache(3, 1))
    with pytest.raises(ValueError, match="room for 1 positions"):
        layer.step(VALUES[:, 1], cache)
