"""The contract of encoders, `TokenEncoder` and `ArrayEncoder`: padding, rows, precision, saving, shapes, and traits."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.models import ArrayEncoder, EmbeddingEncoder, TokenEncoder
from tests.contracts.encoders import ENCODERS, IDS, LENGTHS, TIME, batch_of
from tests.support import BACKEND, assert_all_close, compiled, gradient

KEPT = {}  # encoders that no test changes, by name


def built(name):
    keras.utils.set_random_seed(7)
    encoder = ENCODERS[name]()
    encoder.build()
    random = np.random.default_rng(1)
    encoder.set_weights([0.7 * random.normal(size=weight.shape) for weight in encoder.get_weights()])
    return encoder


@pytest.fixture(params=ENCODERS)
def name(request):
    return request.param


@pytest.fixture
def encoder(name):
    """An encoder for tests that do not change it."""
    return KEPT.setdefault(name, built(name))


@pytest.fixture
def batch(encoder):
    return batch_of(encoder)


@pytest.fixture
def of_tokens(encoder):
    """Skip the test of what arrays do not have: padding, steps in time, and rows of length 0."""
    if isinstance(encoder, ArrayEncoder):
        pytest.skip("its rows are arrays of one size")


def answer(encoder, *inputs):
    """Return the values at the real steps, and the states."""
    encoded = encoder(*inputs)
    mask = np.asarray(encoded.mask)
    return [np.asarray(encoded.values)[mask], *map(np.asarray, encoded.states)]


def padded(batch, more, real_tokens):
    """Return inputs with other ids in the padding, of tokens and of characters, and `more` steps."""
    tokens, lengths, *spelt = batch
    tokens = np.where(real_tokens, np.pad(tokens, [(0, 0), (0, more)]), 7).astype("int32")
    if not spelt:
        return tokens, lengths
    characters, counts = np.pad(spelt[0], [(0, 0), (0, more), (0, more)]), np.pad(spelt[1], [(0, 0), (0, more)])
    counts = np.where(real_tokens, counts, 3).astype("int32")  # words of the padding have characters
    real = (np.arange(characters.shape[2]) < counts[..., None]) & real_tokens[..., None]
    return tokens, lengths, np.where(real, characters, 5).astype("int32"), counts


def test_every_encoder_has_an_instance():
    classes = [getattr(kseq.models, each) for each in kseq.models.__all__]
    encoders = {each for each in classes if inspect.isclass(each) and issubclass(each, TokenEncoder | ArrayEncoder)}
    assert encoders - {TokenEncoder, ArrayEncoder, EmbeddingEncoder} == {type(make()) for make in ENCODERS.values()}


@pytest.mark.mostly_long("Encoder", "ConvolutionalEncoder", "GridEncoder", "TransformerEncoder", "VectorEncoder")
@pytest.mark.usefixtures("of_tokens")
@pytest.mark.parametrize("more", [0, 3])
def test_padding_never_changes_an_answer(encoder, batch, more):
    real = np.arange(TIME + more) < LENGTHS[:, None]
    assert_all_close(answer(encoder, *padded(batch, more, real)), answer(encoder, *batch), atol=1e-5)


@pytest.mark.mostly_long("ConvolutionalEncoder", "Encoder, one direction", "GridEncoder", "VectorEncoder")
def test_nan_in_the_padding_of_the_embeddings_reaches_nothing(encoder):
    if not isinstance(encoder, EmbeddingEncoder):
        pytest.skip("it takes ids alone, which cannot be NaN")
    values = np.random.default_rng(2).normal(size=(4, TIME, encoder.input_dim)).astype("float32")
    real = (np.arange(TIME) < LENGTHS[:, None])[..., None]

    def total(values):
        encoded = encoder.read(values, LENGTHS)
        of_states = sum(ops.sum(state) for state in encoded.states)
        return of_states + ops.sum(ops.where(encoded.mask[..., None], encoded.values, 0.0) ** 2)

    expected, other = np.where(real, values, 0), np.where(real, values, np.nan).astype("float32")
    np.testing.assert_allclose(total(other), total(expected), rtol=1e-5)
    assert_all_close(gradient(total, other), gradient(total, expected), atol=1e-5)


@pytest.mark.mostly_long("ConvolutionalEncoder", "Encoder, one direction", "GridEncoder", "VectorEncoder")
@pytest.mark.long_on_jax("Encoder, one direction")
def test_a_row_alone_and_compiled_equals_the_row_in_its_batch(encoder, batch):
    whole = encoder(*batch)
    run = compiled(lambda *inputs: encoder(*inputs))
    for row in range(len(LENGTHS)) if BACKEND == "tensorflow" else (1,):
        alone = run(*(each[row : row + 1] for each in batch))
        np.testing.assert_array_equal(alone.mask[0], whole.mask[row])
        real = np.asarray(whole.mask[row])
        np.testing.assert_allclose(np.asarray(alone.values[0])[real], np.asarray(whole.values[row])[real], atol=1e-5)
        for state, of_batch in zip(alone.states, whole.states, strict=True):
            np.testing.assert_allclose(state[0], of_batch[row], atol=1e-5)


@pytest.mark.mostly_long("Encoder", "ConvolutionalEncoder", "GridEncoder", "TransformerEncoder", "VectorEncoder")
@pytest.mark.usefixtures("of_tokens")
def test_rows_of_length_0_have_finite_values(encoder, batch):
    encoded = encoder(*batch)
    assert not np.asarray(encoded.mask)[LENGTHS == 0].any()
    empty = encoder(*(each[:2, :0] if each.ndim > 1 else 0 * each[:2] for each in batch))
    assert empty.values.shape[1] <= 1
    for each in (encoded.values, *encoded.states, empty.values, *empty.states):
        assert np.isfinite(each).all()
    assert_all_close([each[0] for each in empty.states], [each[2] for each in encoded.states], atol=1e-5)


def test_encoded_shape_is_that_of_the_output(encoder, batch):
    told, encoded = encoder.encoded_shape(), encoder(*batch)
    steps = None if isinstance(encoder, TokenEncoder) else encoded.values.shape[1]
    assert tuple(told.values) == (None, steps, encoded.values.shape[-1])
    assert tuple(told.mask) == (None, steps)
    assert [tuple(shape) for shape in told.states] == [(None, state.shape[-1]) for state in encoded.states]
    assert encoded.values.shape[:2] == encoded.mask.shape
    assert {state.shape[0] for state in encoded.states} == {len(LENGTHS)}


@pytest.mark.long
def test_half_precision(name, encoder, batch):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = built(name)
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(half(*batch).values.dtype) == "bfloat16"
    for got, expected in zip(answer(half, *batch), answer(encoder, *batch), strict=True):
        difference = np.abs(got.astype("float32") - expected).max()
        assert 0 < difference < 0.1 * np.abs(expected).max()


@pytest.mark.mostly_long("ConvolutionalEncoder", "Encoder, one direction", "GridEncoder", "VectorEncoder")
def test_saves_and_loads_in_a_model(name, batch, tmp_path):
    encoder = built(name)
    if isinstance(encoder, ArrayEncoder):
        model = kseq.models.Seq2Seq(encoder, kseq.models.Decoder(IDS, 4, kseq.cells.SimpleRNNCell(3)))
    else:
        model = kseq.models.SequenceClassifier(encoder, 3, pooling="mean")
    model.build()
    model.save(tmp_path / "model.keras")
    encoder = keras.saving.load_model(tmp_path / "model.keras").encoder
    assert_all_close(answer(encoder, *batch), answer(model.encoder, *batch), rtol=0)
    config = keras.saving.serialize_keras_object(encoder)
    assert config == keras.saving.serialize_keras_object(keras.saving.deserialize_keras_object(config)) | {
        "build_config": config["build_config"]
    }


@pytest.mark.usefixtures("of_tokens")
def test_the_traits_are_true(encoder, batch):
    """`causal`, `subsampling`, and with `bidirectional` the causality of the first half of the values."""
    values = np.asarray(encoder(*batch).values)
    assert values.shape[1] == -(-TIME // encoder.subsampling)
    tokens = batch[0].copy()
    tokens[0, -1] = (tokens[0, -1] + 1) % IDS  # the last token of the first row
    others = np.asarray(encoder(tokens, *batch[1:]).values)
    unchanged = np.isclose(values, others, atol=1e-6)[0, : values.shape[1] - 1].all(axis=0)
    assert unchanged.all() == encoder.causal
    half = values.shape[-1] // 2
    if encoder.bidirectional:
        assert values.shape[-1] == 2 * half
        assert unchanged.all() or not unchanged[half:].any()


@pytest.mark.mostly_long("ConvolutionalEncoder", "Encoder, one direction", "GridEncoder", "VectorEncoder")
def test_dropout_is_on_in_training_alone(encoder, batch):
    names = ("rate", "word_dropout", "dropout")
    drops = any(getattr(layer, each, 0.0) for layer in encoder._flatten_layers() for each in names)
    expected = encoder(*batch).values
    changed = [not np.allclose(encoder(*batch, training=True).values, expected) for _ in range(4 if drops else 1)]
    assert any(changed) == drops


@pytest.mark.long
@pytest.mark.parametrize("kind", ["Tagger", "SequenceClassifier", "Seq2Seq"])
def test_models_train_all_of_its_weights(name, kind):
    if name in ("Encoder", "WordEncoder") and kind != "Seq2Seq":
        pytest.skip("the contract of models trains it")
    encoder = built(name)
    if kind != "Seq2Seq" and isinstance(encoder, ArrayEncoder):
        with pytest.raises(ValueError, match=f"This model reads tokens, but a {type(encoder).__name__} reads arrays"):
            getattr(kseq.models, kind)(encoder, 3)
        return
    if kind == "Tagger" and encoder.subsampling != 1:
        pytest.skip("it has no values for each token")
    if kind == "Seq2Seq" and encoder.characters is not None:
        pytest.skip("Seq2Seq reads no characters")
    names = ("source", "source_lengths", "characters", "characters_lengths")
    batch = dict(zip(names, batch_of(encoder), strict=False))
    if kind == "Tagger":
        model, batch["tags"] = kseq.models.Tagger(encoder, 3), batch["source"] % 3
    elif kind == "SequenceClassifier":
        model, batch["labels"] = kseq.models.SequenceClassifier(encoder, 3, pooling="mean"), np.array([0, 1, 2, 0])
    else:
        model = kseq.models.Seq2Seq(encoder, kseq.models.Decoder(IDS, 4, kseq.cells.SimpleRNNCell(3)))
        batch |= {"target": np.array([[2, 4, 3]] * 4), "target_lengths": np.array([3] * 4)}
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=True)
    before = [np.array(weight) for weight in encoder.trainable_weights]
    assert np.isfinite(model.train_on_batch(batch)[0])
    for weight, old in zip(encoder.trainable_weights, before, strict=True):
        assert not np.array_equal(weight, old), weight.path
