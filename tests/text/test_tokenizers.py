import collections
import gc
import pathlib
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

from kseq.text import CharacterTokenizer, SpecialTokens, TextNormalizer, Tokenizer, Vocabulary, WordTokenizer

NORMALIZER = TextNormalizer(case="lower")
CLASSES = [CharacterTokenizer, WordTokenizer]


def pieces(cls: type[Tokenizer], text: str) -> list[str]:
    return list(text) if cls is CharacterTokenizer else text.split()


@pytest.fixture
def characters() -> CharacterTokenizer:
    return CharacterTokenizer(["a", "b", "c", "d", " "])


@pytest.mark.parametrize("cls", CLASSES)
def test_split_equals_python(cls, nasty_texts, readable_texts):
    tokenizer = cls()
    got = tokenizer.split(tokenizer.normalize(nasty_texts)).to_list()
    assert [[token.decode() for token in row] for row in got] == [pieces(cls, text) for text in readable_texts]


@pytest.mark.parametrize("cls", CLASSES)
def test_adapt_counts_like_a_counter(cls, nasty_texts, readable_texts):
    counts = collections.Counter(token for text in readable_texts for token in pieces(cls, text))
    kept = [token for token in counts if counts[token] >= 3 and token not in SpecialTokens().strings]
    expected = sorted(kept, key=lambda token: (-counts[token], token))
    assert cls().adapt(nasty_texts, min_count=3).vocabulary.strings[4:] == tuple(expected)


@pytest.mark.parametrize(
    "kind",
    [
        list,
        np.array,
        lambda texts: np.array(texts, dtype=object),
        tf.constant,
        iter,
        lambda texts: [text.encode() for text in texts],
        tf.data.Dataset.from_tensor_slices,
        lambda texts: tf.data.Dataset.from_tensor_slices(texts).batch(2),
    ],
)
def test_adapt_takes_texts_of_any_kind(kind):
    tokenizer = WordTokenizer().adapt(kind(["\u00e9 b", "", "b c"]))
    assert tokenizer.vocabulary.strings[4:] == ("b", "c", "\u00e9")


@pytest.mark.long
@pytest.mark.parametrize("cls", CLASSES)
def test_round_trip_of_known_text(cls, nasty_texts):
    texts = [text for text in nasty_texts if b"<pad>" not in text]  # a vocabulary refuses special tokens
    tokenizer = cls(normalizer=NORMALIZER, add_bos=True, add_eos=True).adapt(texts)
    ids, _ = tokenizer(texts)
    np.testing.assert_array_equal(tokenizer.detokenize(ids).numpy(), NORMALIZER(texts).numpy())
    np.testing.assert_array_equal(tokenizer.detokenize(tokenizer.tokenize(texts)).numpy(), NORMALIZER(texts).numpy())


@pytest.mark.parametrize("cls", CLASSES)
def test_unknown_text_never_raises(cls, nasty_texts):
    ids, lengths = cls(["a"], normalizer=NORMALIZER)(nasty_texts)
    real = np.arange(ids.shape[1]) < lengths.numpy()[:, None]
    assert set(ids.numpy()[real]) == {1, 4}
    assert set(ids.numpy()[~real]) == {0}


@pytest.mark.long
@pytest.mark.parametrize("cls", CLASSES)
def test_graph_and_dataset_equal_eager(cls, nasty_texts):
    tokenizer = cls(normalizer=NORMALIZER, add_eos=True, max_length=50, truncation="start").adapt(nasty_texts)
    ids, lengths = tokenizer(nasty_texts)
    compiled = tf.function(tokenizer.__call__, input_signature=[tf.TensorSpec([None], tf.string)])
    mapped = next(iter(tf.data.Dataset.from_tensor_slices(nasty_texts).batch(len(nasty_texts)).map(tokenizer)))
    for other_ids, other_lengths in (compiled(tf.constant(nasty_texts)), mapped):
        np.testing.assert_array_equal(other_ids, ids)
        np.testing.assert_array_equal(other_lengths, lengths)
    detokenize = tf.function(tokenizer.detokenize, input_signature=[tf.TensorSpec([None, None], tf.int32)])
    np.testing.assert_array_equal(detokenize(ids).numpy(), tokenizer.detokenize(ids).numpy())


def test_a_row_alone_equals_the_row_in_a_batch(characters):
    texts = ["abcd", "", "b a"]
    ids, lengths = characters(texts)
    for text, row, length in zip(texts, ids.numpy(), lengths.numpy(), strict=True):
        np.testing.assert_array_equal(characters([text])[0][0], row[:length])


def test_ids_lengths_and_padding(characters):
    ids, lengths = characters(["ab", "", b"d?c"])
    assert (ids.dtype, lengths.dtype) == (tf.int32, tf.int32)
    np.testing.assert_array_equal(ids, [[4, 5, 0], [0, 0, 0], [7, 1, 6]])
    np.testing.assert_array_equal(lengths, [2, 0, 3])
    assert (characters.pad_id, characters.unk_id, characters.bos_id, characters.eos_id) == (0, 1, 2, 3)
    assert characters.vocabulary_size == 9


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("options", [{}, {"add_bos": True, "add_eos": True}, {"pad_to_multiple_of": 4}])
def test_a_batch_of_none(cls, options):
    tokenizer = cls(["a"], normalizer=NORMALIZER, **options)
    ids, lengths = tokenizer([])
    assert ids.shape[0] == 0
    assert lengths.shape == (0,)
    assert tokenizer.detokenize(ids).shape == (0,)


def test_one_hot_is_zero_at_padding(characters):
    one_hot, lengths = characters.one_hot(["a?", "b"], dtype="float16")
    expected = np.zeros((2, 2, 9))
    expected[0, 0, 4] = expected[0, 1, 1] = expected[1, 0, 5] = 1
    assert one_hot.dtype == tf.float16
    np.testing.assert_array_equal(one_hot, expected)
    np.testing.assert_array_equal(lengths, [2, 1])


def test_text_cannot_spell_special_tokens():
    ids, _ = WordTokenizer(["a"])(["<s> a </s> <pad> <unk> a"])
    np.testing.assert_array_equal(ids, [[1, 4, 1, 1, 1, 4]])


def test_detokenize_stops_at_the_end_and_drops_special_tokens(characters):
    ids = [[2, 4, 5, 3, 6, 6], [4, 0, 5, 2, 6, -1], [3, 4, 4, 4, 4, 4], [0, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(characters.detokenize(ids).numpy(), [b"ab", b"abc", b"", b""])


def test_detokenize_writes_the_unknown(characters):
    ids = [[4, 1, 9, 2**31 - 1, 5]]
    np.testing.assert_array_equal(characters.detokenize(ids).numpy(), [b"a<unk><unk><unk>b"])
    np.testing.assert_array_equal(characters.detokenize(ids, keep_unknown=False).numpy(), [b"ab"])


def test_detokenize_joins_words_without_gaps():
    words = WordTokenizer(["x", "y"])
    np.testing.assert_array_equal(words.detokenize([[2, 4, 0, 5, 3], [0, 5, -1, 4, 4]]).numpy(), [b"x y", b"y x x"])


@pytest.mark.parametrize("shape", [(2, 3, 4), (4,), (2, 0, 4), (2, 3, 0), (0, 3, 4), (2, 1, 3, 2)])
def test_detokenize_any_rank(characters, shape):
    ids = np.random.default_rng(0).integers(-1, 11, shape)
    got = characters.detokenize(ids)
    assert got.shape == shape[:-1]
    for index in np.ndindex(*shape[:-1]):
        alone = characters.detokenize(ids[index][None] if shape[-1] else np.zeros((1, 0), int))
        assert got.numpy()[index] == alone.numpy()[0] if len(shape) > 1 else got.numpy() == alone.numpy()[0]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint32", "int64"])
def test_detokenize_any_integer(dtype):
    tokenizer = CharacterTokenizer([chr(code) for code in range(200, 600)])
    np.testing.assert_array_equal(
        tokenizer.detokenize(np.array([[4, 100, 3]], dtype)).numpy(), ["\u00c8\u0128".encode()]
    )


@pytest.mark.long
def test_detokenize_keeps_static_dimensions(characters):
    concrete = tf.function(characters.detokenize).get_concrete_function(tf.TensorSpec([None, 4, None], tf.int32))
    assert concrete.output_shapes.as_list() == [None, 4]


@pytest.mark.parametrize("cls", CLASSES)
def test_config_and_file_round_trips(cls, tmp_path, nasty_texts):
    tokenizer = cls(
        normalizer=NORMALIZER,
        special_tokens=SpecialTokens(unknown="\u2047"),
        add_bos=True,
        max_length=20,
        truncation="start",
        pad_to_multiple_of=8,
    ).adapt(nasty_texts)
    tokenizer.save(tmp_path / "tokenizer.json")
    for again in (cls.from_config(tokenizer.get_config()), Tokenizer.load(tmp_path / "tokenizer.json")):
        assert type(again) is cls
        assert again.get_config() == tokenizer.get_config()
        np.testing.assert_array_equal(again(nasty_texts)[0], tokenizer(nasty_texts)[0])


def test_config_before_adapt():
    assert CharacterTokenizer.from_config(CharacterTokenizer(add_eos=True).get_config()).adapt(["a"])([""])[1] == 1


@keras.saving.register_keras_serializable(package="kseq_tests")
class Labeller(keras.Model):
    """A model with a tokenizer as an attribute."""

    def __init__(self, tokenizer, **kwargs):
        super().__init__(**kwargs)
        self.tokenizer = tokenizer
        self.embedding = keras.layers.Embedding(tokenizer.vocabulary_size, 2)

    def call(self, ids):
        return self.embedding(ids)

    def get_config(self):
        return {**super().get_config(), "tokenizer": keras.saving.serialize_keras_object(self.tokenizer)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "tokenizer": keras.saving.deserialize_keras_object(config["tokenizer"])})


# Keras 3.15 converts TensorFlow variables to arrays without NumPy 2's `copy` argument.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_travels_in_a_keras_file(tmp_path):
    model = Labeller(CharacterTokenizer(["a", "\n"], normalizer=NORMALIZER))
    ids, _ = model.tokenizer(["A\na", "a"])
    expected = model(ids)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(again.tokenizer(["A\na", "a"])[0]), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 0}, "max_length must be at least 1.* is 0"),
        ({"max_length": 1, "add_bos": True, "add_eos": True}, "max_length must be at least 2"),
        ({"truncation": "middle"}, "truncation must be one of.*'middle'"),
        ({"pad_to_multiple_of": 0}, "pad_to_multiple_of must be at least 1"),
        ({"vocabulary": Vocabulary(["a"]), "special_tokens": SpecialTokens(pad="_")}, "not those of the vocabulary"),
    ],
)
def test_refuses_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        CharacterTokenizer(**options)


def test_use_before_adapt_says_the_way_out():
    with pytest.raises(RuntimeError, match=r"WordTokenizer has no vocabulary yet.*adapt\(texts\)"):
        WordTokenizer()(["a"])


@pytest.mark.parametrize("texts", ["abc", b"abc", 3])
def test_adapt_refuses_a_single_text(texts):
    with pytest.raises(TypeError, match=r"Expected a list of texts.*adapt\(\[text\]\)"):
        CharacterTokenizer().adapt(texts)


def test_adapt_refuses_nothing_and_numbers():
    with pytest.raises(ValueError, match="No token is left of 0"):
        CharacterTokenizer().adapt(["", ""])
    with pytest.raises(TypeError, match=r"Expected text of dtype string"):
        CharacterTokenizer().adapt([1, 2])
    for words in ([["the", "cat"], ["a"]], ["the", ("a", "b")]):
        with pytest.raises(TypeError, match=r"one is the (list|tuple) .* join them: adapt"):
            WordTokenizer().adapt(words)
    with pytest.raises(TypeError, match=r"dataset of strings.*dataset\.map"):
        CharacterTokenizer().adapt(tf.data.Dataset.from_tensors((["a"], [1])))


def test_refuses_other_ranks(characters):
    with pytest.raises(ValueError, match=r"shape \(batch,\), got shape \(\)"):
        characters("a")
    with pytest.raises(ValueError, match=r"got shape \(1, 1\)"):
        characters([["a"]])
    with pytest.raises(ValueError, match=r"integer ids of shape \(\.\.\., time\), got float32"):
        characters.detokenize([1.0])
    with pytest.raises(ValueError, match=r"got int32 of shape \(\)"):
        characters.detokenize(3)


def test_load_says_what_is_wrong(tmp_path, characters):
    with pytest.raises(FileNotFoundError, match=r"no tokenizer file '.*nowhere\.json'"):
        Tokenizer.load(tmp_path / "nowhere.json")
    characters.save(tmp_path / "characters.json")
    with pytest.raises(TypeError, match=r"holds a CharacterTokenizer, expected a WordTokenizer"):
        WordTokenizer.load(tmp_path / "characters.json")


def test_detokenize_takes_lists_of_any_lengths(characters):
    assert characters.detokenize([[4, 5], [6], []]).numpy().tolist() == [b"ab", b"c", b""]
    assert characters.detokenize([[[4, 5], [6]], [[7]]]).numpy().tolist()[0] == [b"ab", b"c"]
    assert characters.detokenize([np.array([4, 5]), tf.constant([6])]).numpy().tolist() == [b"ab", b"c"]
    assert characters.detokenize([[]]).numpy().tolist() == [b""]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[4.0, 5.0]], "Expected integer ids .*float32"),
        ([[4, 5], [6.5]], "Expected integer ids .*float32"),
        ([["a"], ["b", "c"]], "Expected integer ids .*string"),
        ([[4, "a"]], "Expected integer ids"),
        (collections.namedtuple("Decoded", "tokens scores")([[4]], [0.0]), r"Give its tokens: detokenize\(decoded.tok"),
    ],
    ids=str,
)
def test_detokenize_says_what_are_no_ids(characters, ids, message):
    with pytest.raises(ValueError, match=message):
        characters.detokenize(ids)
    with pytest.raises(ValueError, match="Expected integer ids, got float32"):
        characters.vocabulary.tokens([4.9])


def test_says_what_is_wrong_with_replacements(characters):
    with pytest.raises(ValueError, match="which keep_unknown=False leaves out"):
        characters.detokenize([[1]], replacements=[["x"]], keep_unknown=False)
    with pytest.raises(ValueError, match=r"shape \(1, 2\), but the ids have \(1, 1\)"):
        characters.detokenize([[1]], replacements=[["x", "y"]])


def test_options_may_be_numbers_of_numpy(tmp_path):
    tokenizer = CharacterTokenizer(["a"], add_eos=np.bool_(True), max_length=np.int64(2))
    tokenizer.save(tmp_path / "tokenizer.json")
    assert CharacterTokenizer.load(tmp_path / "tokenizer.json")(["aa"])[0].numpy().tolist() == [[4, 3]]
    assert CharacterTokenizer().adapt(["aab"], min_count=np.int32(2)).vocabulary.strings[4:] == ("a",)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_length": 2.5}, ValueError, "max_length must be a whole number"),
        ({"add_eos": "yes"}, ValueError, "add_eos must be True or False"),
        ({"vocabulary": 10}, TypeError, "Vocabulary takes a list of tokens, got 10"),
        ({"normalizer": "lower"}, TypeError, r"such as TextNormalizer\(case='lower'\), but is 'lower'"),
        ({"special_tokens": ["<pad>"]}, TypeError, r"special_tokens must be SpecialTokens"),
    ],
)
def test_says_what_is_wrong_with_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        CharacterTokenizer(**{"vocabulary": ["a"], **arguments})


class Shouting:
    """A normaliser that Keras does not know by name in another process."""

    def __call__(self, text):
        return tf.strings.upper(text)

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls()


def test_a_copy_has_its_own_normalizer_and_outlives_the_original():
    tokenizer = CharacterTokenizer(["A"], normalizer=Shouting())
    copied = pickle.loads(pickle.dumps(tokenizer))
    del tokenizer
    gc.collect()
    assert copied(["a"])[0].numpy().tolist() == [[4]]
    assert pathlib.Path(copied.vocabulary._ids._initializer._filename.asset_path.numpy().decode()).is_file()
