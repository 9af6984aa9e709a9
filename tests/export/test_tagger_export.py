"""An exported tagger: from tokens, or from the words of a text, to tags."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from tests.export.test_keras_models import session_answer, texts

pytestmark = pytest.mark.server  # each test exports a model

TAGS = ["D", "N", "V"]
SIZES = {"buckets": (4, 8), "batch_sizes": (2,), "verbose": False}
TEXTS = ["The cat sat", "dog", "", "a Cat sat on the DOG"]


@pytest.fixture(scope="module")
def words():
    return kseq.text.WordTokenizer(normalizer=kseq.text.TextNormalizer(case="lower")).adapt(["the cat sat", "the dog"])


@pytest.fixture(scope="module")
def characters():
    return kseq.text.CharacterTokenizer().adapt(["abcdefghijklmnopqrstuvwxyzCDGOT"])


def drawn(encoder):
    keras.utils.set_random_seed(1)
    model = kseq.models.Tagger(encoder, len(TAGS))
    model.build()
    random = np.random.default_rng(3)
    model.set_weights([random.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def check_answer(answer, model, words, *, inputs=lambda text: {}):
    """Check that each text gets the tags and probabilities that the model gives it alone."""
    for row, text in enumerate(TEXTS):
        ids, lengths = words([text])
        count = int(lengths[0])
        assert [token.decode() for token in answer["tokens"][row] if token] == text.split()
        assert not any(answer["tags"][row][count:])
        if not count:
            continue
        probabilities = ops.softmax(model({"source": ids, "source_lengths": lengths, **inputs(text)}))[0]
        assert [tag.decode() for tag in answer["tags"][row][:count]] == [TAGS[n] for n in np.argmax(probabilities, -1)]
        np.testing.assert_allclose(answer["scores"][row][:count], np.max(probabilities, -1), rtol=1e-4)
    assert not any(answer["error"])


def test_words_to_tags(words, tmp_path):
    model = drawn(kseq.models.Encoder(words.vocabulary_size, 4, kseq.cells.GRUCell(3)))
    folder = kseq.export_saved_model(model, tmp_path / "m", source=words, class_names=TAGS, **SIZES)
    for name in ("serving_default", "serving_xla"):
        check_answer(session_answer(folder, name, text=texts(TEXTS)), model, words)


@pytest.mark.long
def test_words_and_characters_to_tags(words, characters, tmp_path):
    encoder = kseq.models.CharacterEncoder(characters.vocabulary_size, 3, kseq.cells.GRUCell(2))
    model = drawn(kseq.models.WordEncoder(words.vocabulary_size, 4, kseq.cells.GRUCell(3), characters=encoder))
    with pytest.raises(ValueError, match=r"reads \['tokens', 'characters'\], but source has no tokenizer for"):
        kseq.export_saved_model(model, tmp_path / "m", source=words, **SIZES)
    model.source_tokenizer, model.character_tokenizer, model.class_names = words, characters, TAGS
    folder = kseq.export_saved_model(model, tmp_path / "m", **SIZES)

    def spelt(text):
        ids, lengths = characters(text.split())
        return {"characters": ids[None], "characters_lengths": lengths[None]}

    for name in ("serving_default", "serving_xla"):
        answer = session_answer(folder, name, text=texts(TEXTS))
        check_answer(answer, model, words, inputs=spelt)
        decoded = np.char.decode(answer["tokens"].astype(bytes)), np.char.decode(answer["tags"].astype(bytes))
        tagged = [[pair for pair in zip(*row, strict=True) if pair[0]] for row in zip(*decoded, strict=True)]
        assert tagged == model.tag(TEXTS)


def test_tokens_to_ids_of_tags(words, tmp_path):
    model = drawn(kseq.models.Encoder(words.vocabulary_size, 4, kseq.cells.GRUCell(3)))
    folder = kseq.export_saved_model(model, tmp_path / "m", warmup=False, **SIZES)
    ids, lengths = np.array([[4, 5, 6], [5, 4, 99], [99, 4, 4]], "int32"), np.array([3, 2, 2], "int32")
    answer = session_answer(folder, tokens=ids, lengths=lengths)
    own = np.argmax(model({"source": np.minimum(ids, 6), "source_lengths": lengths}), axis=-1)
    assert answer["tags"][:2].tolist() == [[*own[0], -1], [*own[1, :2], -1, -1]]
    assert answer["tags"][2].tolist() == [-1] * 4
    assert answer["error"].tolist()[:2] == [b"", b""]
    assert b"tokens[0] is 99" in answer["error"][2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": kseq.decoding.GreedySearch()}, "a Tagger has no use for it"),
        ({"max_length": 3}, "max_length=3: a Tagger has no use for it"),
        ({"class_names": ["D"]}, "class_names has 1 names, but the model has 3 tags"),
        ({"answers": "tags"}, "a Tagger defines its answer itself"),
    ],
)
def test_options_that_taggers_do_not_have_are_refused(options, message, words, tmp_path):
    model = drawn(kseq.models.Encoder(words.vocabulary_size, 4, kseq.cells.GRUCell(3)))
    with pytest.raises((TypeError, ValueError), match=message):
        kseq.export_saved_model(model, tmp_path / "m", **options)


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(words, tmp_path):
    model = drawn(kseq.models.Encoder(words.vocabulary_size - 1, 4, kseq.cells.GRUCell(3)))
    with pytest.raises(ValueError, match="The source tokenizer has 8 ids, but the model reads 7"):
        kseq.export_saved_model(model, tmp_path / "m", source=words)


def test_subwords_of_a_normalised_text_have_their_places(tmp_path):
    """A text in capitals has other pieces than its normalised form, but as many characters."""
    lower = kseq.text.TextNormalizer(case="lower", collapse_whitespace=False, strip=False)
    pieces = kseq.text.WordPieceTokenizer(["the", "ca", "##t"], normalizer=lower)
    model = drawn(kseq.models.Encoder(pieces.vocabulary_size, 4, kseq.cells.GRUCell(3)))
    folder = kseq.export_saved_model(model, tmp_path / "m", source=pieces, class_names=TAGS, warmup=False, **SIZES)
    answer = session_answer(folder, text=texts(["The  CAT", "cat"]))
    assert answer["error"].tolist() == [b"", b""]
    assert answer["tokens"][0, :3].tolist() == [b"The", b"CA", b"T"]
    assert answer["tokens"][1, :2].tolist() == [b"ca", b"t"]


def test_a_tokenizer_that_gives_other_ids_than_the_models_own_is_refused(words, tmp_path):
    model = drawn(kseq.models.Encoder(words.vocabulary_size, 4, kseq.cells.GRUCell(3)))
    model.source_tokenizer = words
    lower = kseq.text.TextNormalizer(case="lower")
    for other in (
        kseq.text.WordTokenizer(words.vocabulary.strings[:3:-1], normalizer=lower),
        kseq.text.WordTokenizer(words.vocabulary),
    ):
        with pytest.raises(ValueError, match=r"given for 'source' has the fingerprint .* but the model's own one has"):
            kseq.export_saved_model(model, tmp_path / "m", source=other)
    assert not (tmp_path / "m").exists()
