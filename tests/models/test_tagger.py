"""The tagger, over tokens alone and over words with their characters."""

import keras
import numpy as np
import pytest

import kseq
from kseq.masking import implicit_mask
from tests.support import BACKEND, compiled

WORDS, LETTERS, TAGS = 12, 9, 4
KINDS = {"words and letters": True, "tokens": False}


def make_model(*, characters=True, dropout=0.0, word_dropout=0.0, units=5, cell=kseq.cells.LSTMCell, **options):
    if characters:
        spelling = kseq.models.CharacterEncoder(LETTERS, 6, cell(units - 1), dropout=dropout)
        options |= {"characters": spelling, "word_dropout": word_dropout}
    encoder_class = kseq.models.WordEncoder if characters else kseq.models.Encoder
    encoder = encoder_class(WORDS, 7, cell(units), dropout=dropout, **options)
    model = kseq.models.Tagger(encoder, TAGS, dropout=dropout)
    model.build()
    return model


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    """A model shared by tests that do not change it."""
    keras.utils.set_random_seed(7)
    return make_model(characters=KINDS[request.param], num_layers=2, residual=True)


@pytest.fixture
def batch():
    """Rows of 6, 3, 0 and 5 words of 0 to 4 letters."""
    random = np.random.default_rng(0)
    return {
        "source": random.integers(0, WORDS, size=(4, 6)).astype("int32"),
        "source_lengths": np.array([6, 3, 0, 5], "int32"),
        "characters": random.integers(0, LETTERS, size=(4, 6, 4)).astype("int32"),
        "characters_lengths": random.integers(0, 5, size=(4, 6)).astype("int32"),
        "tags": random.integers(0, TAGS, size=(4, 6)).astype("int32"),
    }


@pytest.mark.long
def test_a_words_vector_is_what_each_direction_read_last(batch):
    """The reference runs the cells word by word and letter by letter."""
    encoder = make_model().encoder.characters
    vectors = np.asarray(encoder(batch["characters"], batch["characters_lengths"]))
    letters = np.asarray(encoder.embedding(np.arange(LETTERS)))
    for place in np.ndindex(4, 6):
        read = batch["characters"][place][: batch["characters_lengths"][place]]
        last = []
        for layer, order in ((encoder.layer.forward_layer, read), (encoder.layer.backward_layer, read[::-1])):
            state = layer.cell.get_initial_state(1)
            for letter in order:
                _, state = layer.cell(letters[letter][None], state)
            last.append(np.asarray(state[0])[0])
        np.testing.assert_allclose(vectors[place], np.concatenate(last), atol=1e-6)


@pytest.mark.long
def test_padding_never_changes_an_answer(model, batch):
    logits = np.asarray(model(batch))
    real = np.arange(6)[None] < batch["source_lengths"][:, None]
    np.testing.assert_array_equal(implicit_mask(model(batch)), real)
    other = {name: value.copy() for name, value in batch.items()}
    other["source"][~real] += 1
    other["characters"][~real] += 1
    other["characters"][np.arange(4) >= batch["characters_lengths"][..., None]] = 2
    other["characters_lengths"][~real] = 3
    other = {name: value if name.endswith("lengths") else value % LETTERS for name, value in other.items()}
    other["source"][real] = batch["source"][real]
    np.testing.assert_array_equal(np.asarray(model(other))[real], logits[real])
    longer = {
        **other,
        "source": np.pad(other["source"], [(0, 0), (0, 2)], constant_values=3),
        "characters": np.pad(other["characters"], [(0, 0), (0, 2), (0, 3)], constant_values=1),
        "characters_lengths": np.pad(other["characters_lengths"], [(0, 0), (0, 2)], constant_values=7),
    }
    np.testing.assert_allclose(np.asarray(model(longer))[:, :6][real], logits[real], atol=1e-6)


@pytest.mark.long
def test_a_row_alone_equals_the_row_in_its_batch_compiled_or_not(model, batch):
    logits = np.asarray(model(batch))
    run = compiled(lambda inputs: model(inputs))
    for row in range(4):
        alone = run({name: value[row : row + 1] for name, value in batch.items()})
        np.testing.assert_allclose(np.asarray(alone)[0], logits[row], atol=1e-5)


@pytest.mark.parametrize(("name", "place"), [("source", (0, 5)), ("source", (0, 0)), ("characters", (0, 5, 0))])
def test_words_and_letters_reach_the_rest_of_their_row(name, place, batch):
    model = make_model()
    batch["characters_lengths"][0, 5] = 4
    logits = np.asarray(model(batch))
    batch[name][place] = (batch[name][place] + 1) % LETTERS
    change = np.abs(np.asarray(model(batch)) - logits).max(axis=-1)
    assert np.all(change[0, 1:5] > 1e-7)
    assert np.all(change[1:] == 0)


@pytest.mark.long
def test_word_dropout_hides_words_in_training_only(batch):
    model = make_model(word_dropout=1.0)
    unknown = {**batch, "source": np.full_like(batch["source"], 1)}
    logits, blind = np.asarray(model(batch)), np.asarray(model(unknown))
    assert not np.allclose(logits, blind)
    np.testing.assert_allclose(model(batch, training=True), blind, atol=1e-6)
    model.encoder.word_dropout = 0.5
    some = np.asarray(model(batch, training=True))
    assert not np.allclose(some, logits)
    assert not np.allclose(some, blind)


@pytest.mark.long
def test_fit_learns_what_letters_and_neighbours_tell():
    """All words are unknown; a tag tells the parity of the last letter, and whether that of the next word is equal."""
    random = np.random.default_rng(1)
    letters = random.integers(2, 6, size=(96, 5, 3))
    parity = letters[:, :, -1] % 2
    following = np.concatenate([parity[:, 1:], np.zeros((96, 1), int)], axis=1)
    data = {
        "source": np.full((96, 5), 1),
        "source_lengths": np.full(96, 5),
        "characters": letters,
        "characters_lengths": np.full((96, 5), 3),
        "tags": 2 * parity + (parity == following),
    }
    model = make_model(dropout=0.05, units=16)
    model.compile(keras.optimizers.Adam(0.02), jit_compile=False)
    history = model.fit(data, batch_size=24, epochs=40, verbose=0).history
    assert history["token_accuracy"][-1] > 0.9


@pytest.mark.long
def test_the_loss_divides_by_real_tokens_and_ignores_tags_of_padding(model, batch):
    model.compile("adam", run_eagerly=True)
    batch["tags"][1, 3:] = -1  # their loss is 0, which would lower a mean over all tokens
    loss, accuracy = model.evaluate(batch, batch_size=4, verbose=0)
    real = np.arange(6)[None] < batch["source_lengths"][:, None]
    logits, tags = np.asarray(model(batch))[real], batch["tags"][real]
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(loss, -log_probabilities[np.arange(len(tags)), tags].mean(), rtol=1e-5)
    np.testing.assert_allclose(accuracy, np.mean(logits.argmax(axis=-1) == tags), rtol=1e-6)


@pytest.mark.long
@pytest.mark.every_backend
def test_saves_and_loads_with_its_compilation(batch, tmp_path):
    model = make_model(dropout=0.1, word_dropout=0.2)
    loss = kseq.losses.SequenceCrossEntropy(label_smoothing=0.1)
    model.compile(keras.optimizers.Adam(0.01), loss=loss, run_eagerly=BACKEND == "tensorflow")
    model.fit(batch, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(batch), model(batch))
    assert loaded.get_config() == model.get_config()
    assert loaded.loss.label_smoothing == 0.1
    if BACKEND == "tensorflow":  # JAX would compile the same step again
        loaded.fit(batch, verbose=0)


@pytest.mark.long
def test_mixed_precision(batch):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = make_model()
        model.compile("adam", run_eagerly=True)
        assert np.isfinite(model.fit(batch, verbose=0).history["loss"][0])
        assert keras.backend.standardize_dtype(model(batch).dtype) == "float32"
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.long
def test_empty_batches_sentences_and_words(model, batch):
    assert model({name: value[:0] for name, value in batch.items()}).shape == (0, 6, TAGS)
    none = {name: value if name == "source_lengths" else value[:, :0] for name, value in batch.items()}
    assert model({**none, "source_lengths": np.zeros(4, "int32")}).shape == (4, 0, TAGS)
    unspelt = {"characters": batch["characters"][:, :, :0], "characters_lengths": 0 * batch["characters_lengths"]}
    blank = {**batch, "characters_lengths": 0 * batch["characters_lengths"]}
    np.testing.assert_allclose(model({**batch, **unspelt}), model(blank), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": np.full((4, 6), WORDS)}, rf"source\[0, 0\] = {WORDS} is not a token id"),
        ({"characters": np.full((4, 6, 4), -1)}, r"characters\[0, 0, 0\] = -1 is not a token id"),
        ({"tags": np.full((4, 6), TAGS)}, rf"tags\[0, 0\] = {TAGS} is not a tag: the model has tags 0 to {TAGS - 1}"),
        ({"tags": np.zeros((4, 5), int)}, r"tags has shape \(4, 5\), but source has shape \(4, 6\)"),
        ({"characters": np.zeros((4, 6), int)}, r"their shapes are \(4, 6\) and \(4, 6\)"),
        ({"characters_lengths": np.zeros(4, int)}, r"their shapes are \(4, 6, 4\) and \(4,\)"),
        ({"characters_lengths": np.full((4, 6), 5)}, r"characters_lengths\[0, 0\] = 5, but characters has 4 columns"),
        ({"tags_lengths": np.array([6, 3, 0, 4])}, r"tags\[3\] has 4 values, but source\[3\] has 5"),
        ({"characters": None}, r"reads the characters of words, but the inputs \[.*\] lack \['characters'\]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message, batch):
    model = make_model()
    model.compile("adam")
    wrong = {name: value for name, value in {**batch, **change}.items() if value is not None}
    for method in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(ValueError, match=message):
            method(wrong)


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="num_tags=0"):
        kseq.models.Tagger(kseq.models.Encoder(5, 4, kseq.cells.GRUCell(3)), 0)
    tokenizer = kseq.text.WordTokenizer().adapt(["one two three four five six seven eight nine ten"])
    with pytest.raises(ValueError, match="source tokenizer has 14 ids, but the model reads 9"):
        kseq.models.Tagger(kseq.models.Encoder(9, 2, kseq.cells.GRUCell(2)), 2, source_tokenizer=tokenizer)
    with pytest.raises(ValueError, match="class_names has 'A' twice"):
        kseq.models.Tagger(kseq.models.Encoder(5, 4, kseq.cells.GRUCell(3)), 3, class_names=["A", "B", "A"])
    characters = kseq.models.CharacterEncoder(LETTERS, 6, kseq.cells.GRUCell(4))
    with pytest.raises(ValueError, match="unk_id=5 is not a word id: the vocabulary has ids 0 to 4"):
        kseq.models.WordEncoder(5, 4, kseq.cells.GRUCell(3), characters=characters, unk_id=5)


@pytest.mark.long
def test_a_model_of_a_strategy_is_trained_outside_its_scope(batch):
    """The variables that are created before the first step belong to the strategy."""
    import tensorflow as tf

    batch = {name: batch[name] for name in ("source", "source_lengths", "tags")}
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        model = make_model(characters=False)
        model.compile("adam")
    assert np.isfinite(model.train_on_batch(batch)[0])


@pytest.mark.long
def test_a_training_step_is_traced_once(batch):
    import tensorflow as tf

    traces = []

    class Traced(kseq.models.Tagger):
        def train_step(self, data):
            traces.append(tf.inside_function())
            return super().train_step(data)

    encoder = kseq.models.Encoder(WORDS, 7, kseq.cells.LSTMCell(5))
    model = Traced(encoder, TAGS)
    model.compile("adam")
    model.train_on_batch({name: batch[name] for name in ("source", "source_lengths", "tags")})
    assert traces == [True]


@pytest.mark.long
def test_a_callback_may_unfreeze_a_layer_before_the_first_step(batch):
    model = make_model(characters=False)
    model.encoder.trainable = False
    model.compile("adam")
    unfreeze = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: setattr(model.encoder, "trainable", True))
    before = np.array(model.encoder.embedding.embeddings)
    model.fit({name: batch[name] for name in ("source", "source_lengths", "tags")}, callbacks=[unfreeze], verbose=0)
    assert np.any(np.asarray(model.encoder.embedding.embeddings) != before)


def test_a_model_that_is_not_compiled_says_so(batch):
    with pytest.raises(ValueError, match=r"call `compile\(\)`"):
        make_model(characters=False).fit({name: batch[name] for name in ("source", "source_lengths", "tags")})
