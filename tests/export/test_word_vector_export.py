"""Exported word vectors: a text's vector, its nearest words, words outside the vocabulary."""

import keras
import numpy as np
import pytest

import kseq

TEXTS = ["the red cat sat", "a blue bird flew"]


@pytest.fixture(scope="module")
def tokenizer():
    return kseq.text.WordTokenizer(normalizer=kseq.text.TextNormalizer(case="lower")).adapt(TEXTS)


def exported(model, path, **options):
    sizes = {"buckets": (4, 8), "batch_sizes": (2,), "warmup": False, "serving_config": False, "verbose": False}
    return kseq.load_saved_model(kseq.export_saved_model(model, path, **sizes, **options))


def strings(values):
    return np.asarray(values).tolist()


@pytest.mark.long
@pytest.mark.parametrize("cls", [kseq.models.CBOW, kseq.models.GloVe])
def test_answers_the_mean_of_the_known_words_and_what_is_near(cls, tokenizer, tmp_path):
    keras.utils.set_random_seed(0)
    model = cls(tokenizer.vocabulary_size, 5, source_tokenizer=tokenizer)
    served = exported(model, tmp_path / "vectors")
    vectors = model.word_vectors()
    answer = served(text=["Cat", "red unknown bird", "unknown", ""])
    mean = vectors.text_vector(["red", "bird"], "mean")
    np.testing.assert_allclose(answer["vector"][:2], [vectors["cat"], mean], atol=1e-6)
    for row, vector in enumerate((vectors["cat"], mean)):
        nearest = vectors.nearest(vector, 8)
        assert strings(answer["nearest"])[row] == [word for word, _ in nearest]
        np.testing.assert_allclose(answer["similarities"][row], [number for _, number in nearest], atol=1e-5)
    assert [error.split(".")[0].split(",")[0] for error in strings(answer["error"])] == [
        "",
        "",
        "The row has no word of the model's vocabulary",
        "The row has 0 steps in tokens",
    ]
    assert np.isnan(answer["vector"][2:]).all()
    assert strings(answer["nearest"])[2:] == [[""] * 8] * 2


@pytest.mark.long
def test_words_outside_the_vocabulary_have_vectors_of_their_characters(tokenizer, tmp_path):
    keras.utils.set_random_seed(0)
    lower = kseq.text.TextNormalizer(case="lower")
    characters = kseq.text.CharacterTokenizer(normalizer=lower).adapt(TEXTS)
    ngrams = kseq.layers.CharNGramEmbedding(characters.vocabulary_size, 5, min_length=1, max_length=3, buckets=99)
    model = kseq.models.SkipGram(
        tokenizer.vocabulary_size, 5, subwords=ngrams, source_tokenizer=tokenizer, character_tokenizer=characters
    )
    served = exported(model, tmp_path / "vectors")
    vectors, unseen = model.word_vectors(), model.word_vectors(["birt"])
    answer = served(text=["Bird", "Birt", "red birt"])
    np.testing.assert_allclose(answer["vector"][0], vectors["bird"], atol=1e-6)
    np.testing.assert_allclose(answer["vector"][1], unseen["birt"], atol=1e-6)
    np.testing.assert_allclose(answer["vector"][2], (unseen["birt"] + vectors["red"]) / 2, atol=1e-6)
    assert [row[0] for row in strings(answer["nearest"])[:2]] == ["bird", "bird"]


def test_what_does_not_fit_is_refused(tokenizer, tmp_path):
    model = kseq.models.CBOW(tokenizer.vocabulary_size, 5, source_tokenizer=tokenizer)
    with pytest.raises(ValueError, match=r"max_length=3: a CBOW has no use for it"):
        exported(model, tmp_path / "vectors", max_length=3)
    with pytest.raises(ValueError, match=r"There are 1 names, but the model has 12 words"):
        exported(model, tmp_path / "vectors", class_names=["a"])
