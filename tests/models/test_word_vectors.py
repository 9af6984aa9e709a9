"""Models of word vectors: losses and gradients against twins, wrong rows, training, files, vectors of unseen words."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.models.word_vectors import word_model
from tests.reference import word_vectors as twins
from tests.support import gradient, traced

SIZE, DIM, NEGATIVES = 9, 4, 3.0
RANDOM = np.random.default_rng(0)
V, U = RANDOM.normal(size=(2, SIZE, DIM))
BATCH = {
    "words": RANDOM.integers(0, SIZE, (3, 10)),
    "before": np.array([[0, 1, 2, 2, 1, 0], [2, 2, 2, 2, 2, 2], [0, 0, 0, 0, 0, 0]]),
    "after": np.array([[2, 1, 0, 1, 2, 1], [1, 2, 1, 2, 1, 1], [0, 0, 0, 0, 0, 0]]),
    "noise": RANDOM.integers(0, SIZE, (3, 7)),
}
BATCH = {name: of.astype("int32") for name, of in BATCH.items()}
WINDOW_MODELS = {"SkipGram": (kseq.models.SkipGram, twins.skip_gram), "CBOW": (kseq.models.CBOW, twins.cbow)}
TEXTS = ["the red cat sat", "the red dog sat", "a blue bird flew", "a blue fly flew"] * 25


def made(cls, **options):
    model = cls(SIZE, DIM, **options)
    model.build()
    return model


def losses_and_gradients(model, weights, values, batch):
    """Return the rows' losses, and the gradients of their sum, for values of weights."""

    def total(*values):
        # The product makes TensorFlow's gradients of looked-up rows dense.
        variables = [(weight, value * 1.0) for weight, value in zip(weights, values, strict=True)]
        with keras.StatelessScope(state_mapping=variables):
            return ops.sum(model(batch))

    for weight, value in zip(weights, values, strict=True):
        weight.assign(value)
    return np.asarray(model(batch)), gradient(total, *[np.asarray(value, "float32") for value in values])


@pytest.mark.parametrize("name", [pytest.param("CBOW", marks=pytest.mark.long_on_jax), "SkipGram"])
def test_window_models_have_the_losses_and_gradients_of_their_twins(name):
    cls, twin = WINDOW_MODELS[name]
    model = made(cls, negatives=NEGATIVES)
    weights = [model.embedding.embeddings, model.output_embedding.embeddings]
    losses, gradients = losses_and_gradients(model, weights, [V, U], BATCH)
    expected = [twin(*(BATCH[key][row] for key in BATCH), V, U, NEGATIVES) for row in range(3)]
    np.testing.assert_allclose(losses, [loss for loss, _, _ in expected], rtol=1e-5)
    assert losses[2] == 0
    for got, each in zip(gradients, zip(*[rest for _, *rest in expected], strict=True), strict=True):
        np.testing.assert_allclose(got, sum(each), atol=1e-5)


def test_glove_has_the_losses_and_gradients_of_its_twin():
    model = made(kseq.models.GloVe, x_max=20.0, power=0.5)
    layers = (model.embedding, model.context_embedding, model.word_bias, model.context_bias)
    biases = RANDOM.normal(size=(2, SIZE, 1))
    pairs = {"word": np.array([1, 2, 1, 8]), "context": np.array([3, 1, 1, 0]), "count": np.array([0.5, 3, 20, 70])}
    losses, gradients = losses_and_gradients(model, [of.embeddings for of in layers], [V, U, *biases], pairs)
    expected, slopes = twins.glove(*pairs.values(), V, U, *biases[..., 0], 20.0, 0.5)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for got, each in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(np.reshape(got, each.shape), each, atol=1e-5)
    vectors = model.word_vectors([str(number) for number in range(SIZE)])
    np.testing.assert_allclose(vectors.matrix, V + U, rtol=1e-5)


@pytest.mark.parametrize("name", [*WINDOW_MODELS, "GloVe"])
def test_a_row_with_a_wrong_id_or_count_is_nan_and_no_other(name):
    model = made(getattr(kseq.models, name))
    pairs = {"word": np.array([1, 2, 3]), "context": np.array([3, 1, 1]), "count": np.array([1.0, 2.0, 3.0])}
    batch = BATCH if name != "GloVe" else pairs
    right = np.asarray(model(batch))
    wrong_windows = (("words", -1), ("noise", SIZE), ("before", 9), ("after", -3))
    for key, wrong in (("count", 0.0), ("word", SIZE)) if name == "GloVe" else wrong_windows:
        values = batch[key].copy()
        values[1, ...] = wrong
        got = np.asarray(traced(lambda inputs: model(inputs))({**batch, key: values}))
        assert np.isnan(got).tolist() == [False, True, False]
        np.testing.assert_allclose(got[[0, 2]], right[[0, 2]], rtol=1e-5)
        model.compile(run_eagerly=True)
        with pytest.raises(ValueError, match=rf"{key}\[1.*"):
            model.fit({**batch, key: values}, verbose=0)


@pytest.mark.parametrize("name", [*WINDOW_MODELS, "GloVe"])
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16"])
def test_low_precision_has_nearly_the_losses_of_float32(name, dtype):
    batch = BATCH
    if name == "GloVe":
        batch = {"word": np.array([1, 2, 3]), "context": np.array([3, 1, 1]), "count": np.array([1.0, 2.0, 3.0])}
    low, model = (made(getattr(kseq.models, name), dtype=each) for each in (dtype, "float32"))
    for weight, right in zip(low.weights, model.weights, strict=True):
        right.assign(RANDOM.normal(size=right.shape))
        weight.assign(right)
    assert {layer.compute_dtype for layer in low._flatten_layers(include_self=False)} == {"bfloat16"}
    losses = model(batch)
    np.testing.assert_allclose(np.asarray(low(batch), "float32"), losses, rtol=0.1, atol=0.1)
    words = [str(number) for number in range(SIZE)]
    right = model.word_vectors(words).matrix
    np.testing.assert_allclose(low.word_vectors(words).matrix, right, rtol=0.02, atol=0.02)
    assert type(low).from_config(low.get_config()).dtype_policy.name == dtype


def tokenizer_and_model(cls, *, subwords=False, dim=8):
    tokenizer = kseq.text.WordTokenizer().adapt(TEXTS)
    if not subwords:
        return tokenizer, cls(tokenizer.vocabulary_size, dim, source_tokenizer=tokenizer)
    characters = kseq.text.CharacterTokenizer().adapt(TEXTS)
    ngrams = kseq.layers.CharNGramEmbedding(characters.vocabulary_size, dim, min_length=1, max_length=3, buckets=97)
    options = {"source_tokenizer": tokenizer, "character_tokenizer": characters, "subwords": ngrams}
    return tokenizer, cls(tokenizer.vocabulary_size, dim, **options)


def data_of(cls, tokenizer):
    if cls is kseq.models.GloVe:
        return kseq.training.co_occurrences(tokenizer, TEXTS, window=2)
    return kseq.training.context_windows(tokenizer, TEXTS, 4, window=2, steps=16, noise=8, sample=0)


@pytest.mark.every_backend
@pytest.mark.long
@pytest.mark.parametrize(
    ("cls", "subwords"),
    [
        (kseq.models.SkipGram, False),
        (kseq.models.SkipGram, True),
        (kseq.models.CBOW, False),
        (kseq.models.GloVe, False),
    ],
)
def test_words_of_one_context_become_neighbours_and_files_keep_them(cls, subwords, tmp_path):
    keras.utils.set_random_seed(1)
    tokenizer, model = tokenizer_and_model(cls, subwords=subwords)
    model.compile(keras.optimizers.Adam(0.05), jit_compile=False)
    history = model.fit(data_of(cls, tokenizer), epochs=8, batch_size=8, verbose=0).history
    assert set(history) == {"loss"}
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    vectors = model.word_vectors()
    assert vectors.missing == ("<pad>", "<unk>", "<s>", "</s>")
    assert not vectors.matrix[:4].any()
    similar = dict(vectors.nearest("cat", 20))
    assert similar["dog"] > similar["bird"] + 0.2
    np.testing.assert_array_equal(vectors.embedding()(tokenizer(["the cat"])[0])[0, 1], vectors["cat"])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.word_vectors().matrix, vectors.matrix)
    assert again.get_config() == model.get_config()
    again.fit(data_of(cls, tokenizer), verbose=0)  # goes on as it was compiled


def test_unseen_words_have_vectors_of_their_characters():
    _, model = tokenizer_and_model(kseq.models.SkipGram, subwords=True)
    vectors = model.word_vectors()
    unseen = model.word_vectors(["birt", "cat"])
    assert unseen.found.all()
    np.testing.assert_allclose(unseen["cat"], vectors["cat"], atol=1e-6)
    assert unseen.nearest_in(vectors, "birt", 1)[0][0] == "bird"
    with pytest.raises(ValueError, match=r"has 2 words, but the model has 14"):
        tokenizer_and_model(kseq.models.SkipGram)[1].word_vectors(["a", "b"])


def test_another_vocabulary_of_equal_size_is_refused():
    tokenizer, model = tokenizer_and_model(kseq.models.SkipGram)
    words = list(tokenizer.vocabulary.strings)
    assert model.word_vectors(word for word in words).found.all()
    with pytest.raises(ValueError, match=r"has the word 'zebra' with the id 13, but the model's own tokenizer has "):
        model.word_vectors([*words[:-1], "zebra"])


def test_several_replicas_are_refused(monkeypatch):
    monkeypatch.setattr(word_model, "num_replicas", lambda: 2)
    with pytest.raises(ValueError, match=r"A SkipGram trains on one device, but the strategy .* has 2 replicas"):
        kseq.models.SkipGram(9).compile("sgd")


@pytest.mark.parametrize(
    "options", [{"loss": "mse"}, {"loss_weights": [2.0]}, {"metrics": ["mae"]}, {"weighted_metrics": ["mae"]}]
)
def test_losses_and_metrics_of_labels_are_refused(options):
    for cls in (kseq.models.CBOW, kseq.models.GloVe):
        with pytest.raises(ValueError, match=f"no labels, but compile got {next(iter(options))}. Leave them out"):
            cls(SIZE, DIM).compile(**options)


PAIRS = {"word": np.array([1, 2]), "context": np.array([2, 1]), "count": np.array([1.0, 2.0])}


@pytest.mark.parametrize(
    ("cls", "inputs", "options", "message"),
    [
        (kseq.models.CBOW, BATCH, {"class_weight": {0: 1.0}}, "but fit got class_weight"),
        (kseq.models.GloVe, PAIRS, {"y": np.zeros(2)}, "but fit got y. Leave"),
        (kseq.models.GloVe, {**PAIRS, "count": np.ones(1)}, {}, "different numbers of rows.*co_occurrences"),
        (kseq.models.GloVe, {"word": PAIRS["word"]}, {}, "without .'context', 'count'..*co_occurrences"),
        (kseq.models.CBOW, {**BATCH, "noise": BATCH["noise"][:2]}, {}, "different numbers of rows.*context_windows"),
        (
            kseq.models.GloVe,
            {**PAIRS, "count": np.ones((2, 1))},
            {},
            r"count has shape \(2, 1\), but expected \(batch,",
        ),
        (kseq.models.GloVe, {**PAIRS, "count": np.array(["a", "b"])}, {}, "count has dtype <U1"),
        (kseq.models.CBOW, {**BATCH, "words": np.ones(3, "int32")}, {}, r"words has shape \(3,\), but .* \(batch, n\)"),
        (kseq.models.CBOW, {**BATCH, "before": BATCH["before"] * 2}, {}, r"before\[0, 2\] = 4, but .* 0 to 2 words"),
    ],
)
def test_data_that_does_not_fit_is_refused(cls, inputs, options, message):
    model = cls(SIZE, DIM)
    model.compile()
    with pytest.raises(ValueError, match=message):
        model.fit(inputs, verbose=0, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda t, c, n: kseq.models.SkipGram(0), "vocabulary_size=0"),
        (
            lambda t, c, n: kseq.models.SkipGram(9, source_tokenizer=["a"]),
            r"source_tokenizer must be a tokenizer .*'a'",
        ),
        (lambda t, c, n: kseq.models.CBOW(9, character_tokenizer=3), "character_tokenizer must be a tokenizer"),
        (lambda t, c, n: kseq.models.SkipGram(9, negatives=0), "negatives=0 must be more than 0"),
        (lambda t, c, n: kseq.models.SkipGram(9, source_tokenizer=t), "has 14 ids, but the model has 9"),
        (lambda t, c, n: kseq.models.CBOW(14, 8, subwords=n, source_tokenizer=t), "subwords needs both"),
        (lambda t, c, n: kseq.models.CBOW(14, 8, source_tokenizer=t, character_tokenizer=c), "Leave it out"),
        (
            lambda t, c, n: kseq.models.CBOW(14, 9, subwords=n, source_tokenizer=t, character_tokenizer=c),
            "size 8, but dim=9",
        ),
        (
            lambda t, c, n: kseq.models.CBOW(14, 8, subwords=n, source_tokenizer=t, character_tokenizer=t),
            "subwords reads .* characters, but character_tokenizer has 14",
        ),
        (
            lambda t, c, n: kseq.models.CBOW(14, 8, subwords=8, source_tokenizer=t, character_tokenizer=c),
            "subwords must be a kseq.layers.CharNGramEmbedding, but is 8",
        ),
        (lambda t, c, n: made(kseq.models.GloVe)({**PAIRS, "count": np.ones((2, 1))}), r"count has shape \(2, 1\)"),
        (lambda t, c, n: kseq.models.GloVe(9, x_max=0), "x_max=0 must be more than 0"),
        (lambda t, c, n: kseq.models.SkipGram(9).word_vectors(), "has no source_tokenizer"),
        (lambda t, c, n: kseq.models.SkipGram(9).word_vectors("abc"), "expected a tokenizer, a Vocabulary, or a list"),
        (lambda t, c, n: made(kseq.models.CBOW)({"words": BATCH["words"]}), "without .'before', 'after', 'noise'."),
        (lambda t, c, n: made(kseq.models.CBOW)({**BATCH, "after": BATCH["words"]}), r"have shapes \(3, 10\)"),
        (lambda t, c, n: made(kseq.models.CBOW)({**BATCH, "noise": BATCH["noise"] / 2}), "noise have dtype float32"),
        (lambda t, c, n: made(kseq.models.CBOW).compute_loss(x=BATCH, y=1), "but got y or sample_weight"),
        (lambda t, c, n: made(kseq.models.CBOW).export("x"), "Use kseq.export_saved_model"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    tokenizer, model = tokenizer_and_model(kseq.models.SkipGram, subwords=True)
    with pytest.raises((ValueError, TypeError), match=message):
        make(tokenizer, model.character_tokenizer, model.subwords)
