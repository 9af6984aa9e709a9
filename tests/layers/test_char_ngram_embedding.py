"""Word vectors of character n-grams: their hashes and sums, padding, and what is refused."""

import keras
import numpy as np
import pytest

import kseq
from kseq.layers.char_ngram_embedding import FNV_OFFSET, FNV_PRIME

CHARACTERS, BUCKETS = 9, 50
WORDS = np.array([[[1, 2, 3, 4], [5, 0, 8, 8], [6, 7, 0, 0]], [[2, 2, 2, 2], [1, 2, 3, 4], [0, 0, 0, 0]]], "int32")
LENGTHS = np.array([[4, 1, 2], [3, 4, 0]], "int32")


def bucket(ngram):
    hashed = FNV_OFFSET
    for character in ngram:
        hashed = (hashed ^ character) * FNV_PRIME % 2**32
    return ((hashed ^ hashed >> 15) >> 1) % BUCKETS


def ngrams(word, size):
    """Return the n-grams of a word between its boundaries."""
    text = [CHARACTERS, *word, CHARACTERS + 1]
    if not len(word):
        return []
    found = [text[at : at + size] for at in range(len(text) - size + 1)]
    return found[1:-1] if size == 1 else found


def expected(layer, word):
    table = np.asarray(layer.embeddings, np.float64)
    sizes = range(layer.min_length, layer.max_length + 1)
    sums = [sum((table[bucket(each)] for each in ngrams(word, size)), np.zeros(3)) for size in sizes]
    if layer.combine == "concat":
        return np.concatenate(sums)
    count = sum(len(ngrams(word, size)) for size in sizes)
    return sum(sums) / (max(count, 1) if layer.combine == "mean" else 1)


@pytest.mark.every_backend
@pytest.mark.parametrize(("combine", "sizes"), [("sum", (3, 6)), ("mean", (1, 2)), ("concat", (2, 4)), ("sum", (9, 9))])
def test_vectors_are_sums_over_the_hashed_ngrams(combine, sizes):
    layer = kseq.layers.CharNGramEmbedding(
        CHARACTERS, 3, min_length=sizes[0], max_length=sizes[1], buckets=BUCKETS, combine=combine
    )
    found = np.asarray(layer(WORDS, LENGTHS))
    assert found.shape == (2, 3, layer.dim) == layer.compute_output_shape((2, 3, 4))
    for row, words in enumerate(WORDS):
        for place, word in enumerate(words):
            vector = expected(layer, word[: LENGTHS[row, place]].tolist())
            np.testing.assert_allclose(found[row, place], vector, atol=1e-6)


def test_ngrams_spread_over_the_buckets():
    layer = kseq.layers.CharNGramEmbedding(30, 1, min_length=3, max_length=3, buckets=1000)
    words = np.stack(np.meshgrid(*[np.arange(1, 28)] * 3), -1).reshape(1, -1, 3)  # all words of three letters
    ids, mask = layer.ngram_ids(words.astype("int32"), np.full(words.shape[:2], 3, "int32"))[0]
    counts = np.bincount(np.asarray(ids)[..., 1][np.asarray(mask)[..., 1]], minlength=1000)
    assert counts.sum() == 27**3
    assert counts.std() < 2 * np.sqrt(27**3 / 1000)  # that of random buckets is the root


@pytest.mark.parametrize("characters", [0, 1])
def test_words_shorter_than_ngrams_have_zeros(characters):
    layer = kseq.layers.CharNGramEmbedding(CHARACTERS, 3, min_length=4, max_length=5)
    vectors = layer(np.ones((2, 3, characters), "int32"), np.full((2, 3), characters, "int32"))
    assert vectors.shape == (2, 3, 3)
    assert not np.asarray(vectors).any()


@pytest.mark.long
def test_a_tagger_learns_from_ngrams_alone():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    characters = rng.integers(1, 8, (64, 3, 4)).astype("int32")
    inputs = {
        "source": np.ones((64, 3), "int32"),  # no word is known
        "source_lengths": np.full(64, 3, "int32"),
        "characters": characters,
        "characters_lengths": np.full((64, 3), 4, "int32"),
        "tags": (characters[..., -1] % 2).astype("int32"),  # what the last letter says
    }
    layer = kseq.layers.CharNGramEmbedding(CHARACTERS, 8, min_length=2, max_length=2, dropout=0.1)
    encoder = kseq.models.WordEncoder(2, 4, kseq.cells.GRUCell(8), characters=layer)
    model = kseq.models.Tagger(encoder, 2)
    model.compile(keras.optimizers.Adam(0.02), run_eagerly=False)
    history = model.fit(inputs, epochs=15, batch_size=16, verbose=0).history
    assert history["loss"][0] > 0.5
    assert history["loss"][-1] < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 2}, "max_length=2 is smaller than min_length=3"),
        ({"min_length": 0}, "min_length"),
        ({"buckets": 0}, "buckets"),
        ({"combine": "max"}, "combine='max', but it must be one of 'sum', 'mean', 'concat'"),
        ({"dropout": 2}, "dropout"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        kseq.layers.CharNGramEmbedding(CHARACTERS, 3, **options)


def test_inputs_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"got shapes \(2, 4\) and \(2,\)"):
        kseq.layers.CharNGramEmbedding(CHARACTERS, 3)(WORDS[:, 0], LENGTHS[:, 0])
