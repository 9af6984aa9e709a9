"""The contract of every tokenizer: round trips, hostile bytes, places, files, graphs, exports."""

import json
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq.text import SpecialTokens, Tokenizer
from tests.export.test_saved_model import Session
from tests.support import operations_not_of_tensorflow
from tests.text.test_tokenizers import Labeller
from tests.text.tokenizers import LOSSLESS, MAKERS, OPTIONS, SCRIPTS, made, random_texts

NAMES = sorted(MAKERS)
every_tokenizer = pytest.mark.parametrize("name", NAMES)
# The operations of tensorflow-text in exported graphs. TensorFlow Serving links all of tensorflow-text.
TEXT_OPERATIONS = {
    "NormalizeUTF8",
    "SentencepieceDetokenizeOp",
    "SentencepieceOp",
    "SentencepieceTokenizeOp",
    "SentencepieceTokenizeWithOffsetsOp",
    "FastWordpieceTokenizeWithOffsets",
}


@pytest.fixture(scope="module")
def texts(nasty_texts) -> list[bytes]:
    short = [text for text in nasty_texts if len(text) < 2000]
    return [*short, *(text.encode() for text in (*SCRIPTS, *random_texts(60)))]


def test_every_tokenizer_is_here():
    public = {name for name in kseq.text.__all__ if isinstance(getattr(kseq.text, name), type)}
    assert {n for n in public if issubclass(getattr(kseq.text, n), Tokenizer)} - {"Tokenizer"} == set(MAKERS)


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_ones_return_the_normalised_text(name, texts):
    tokenizer = made(name)
    got, expected = tokenizer.detokenize(tokenizer(texts)[0]).numpy(), tokenizer.normalize(texts).numpy()
    if name == "SentencePieceTokenizer":  # which spells a space so
        expected = [text.replace("\u2581".encode(), b" ") for text in expected]
    assert list(got) == list(expected)


@every_tokenizer
def test_known_text_comes_back_by_the_stated_rule(name):
    tokenizer = made(name)
    got = [text.decode() for text in tokenizer.detokenize(tokenizer.tokenize(SCRIPTS)).numpy()]
    expected = [text.decode() for text in tokenizer.normalize(SCRIPTS).numpy()]
    if name == "WordTokenizer":
        expected = [" ".join(text.split()) for text in expected]
    if name in ("WordPieceTokenizer", "UnicodeWordTokenizer"):  # with spaces around marks and Chinese characters
        got, expected = (["".join(text.split()) for text in each] for each in (got, expected))
    assert got == expected


@every_tokenizer
def test_rows_keep_to_the_contract_whatever_the_bytes(name, texts):
    tokenizer = made(name)
    ids, lengths = (each.numpy() for each in tokenizer(texts))
    real = np.arange(ids.shape[1]) < lengths[:, None]
    special = set(tokenizer.special_tokens.ids)
    assert (ids[~real] == tokenizer.pad_id).all()
    assert (ids[np.arange(len(ids)), lengths - 1] == tokenizer.eos_id).all()
    assert ((ids >= 0) & (ids < tokenizer.vocabulary_size)).all()
    inner = ids[real & ~(np.arange(ids.shape[1]) == lengths[:, None] - 1)]
    assert not set(inner.tolist()) & (special - {tokenizer.unk_id})
    strings = tokenizer.strings(texts).numpy()
    assert strings.shape == ids.shape
    known = real & (ids != tokenizer.unk_id) & (ids != tokenizer.eos_id)
    np.testing.assert_array_equal(strings[known], tokenizer.vocabulary.tokens(ids[known]).numpy())


@every_tokenizer
def test_a_long_text_and_no_text(name):
    tokenizer = made(name)
    text = "Don't " * 5000
    (got,) = tokenizer.detokenize(tokenizer([text])[0]).numpy()
    (once,) = tokenizer.detokenize(tokenizer(["Don't "])[0]).numpy()
    assert got.split() == once.split() * 5000
    assert tokenizer([])[0].shape[0] == 0
    assert tokenizer.detokenize(tokenizer([])[0]).shape == (0,)


@every_tokenizer
def test_a_new_seed_changes_nothing(name):
    """TensorFlow forgets the kernels that have run, and what belongs to them."""
    expected = made(name)(SCRIPTS)[0]
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(made(name)(SCRIPTS)[0], expected)


@every_tokenizer
def test_places_are_inside_the_text_and_in_order(name, texts):
    tokenizer = made(name)
    lengths = tokenizer(texts)[1].numpy() - 1
    starts, ends = (each.numpy() for each in tokenizer.offsets(texts))
    for text, count, start, end in zip(texts, lengths, starts, ends, strict=True):
        assert (start[:count] <= end[:count]).all()
        assert (np.diff(start[:count]) >= 0).all()
        assert (np.diff(end[:count]) >= 0).all()
        assert (end[:count] <= len(text)).all()
    text = b"Don't " + b"\xff" + " Würde".encode()
    start, end = (each.numpy()[0] for each in tokenizer.offsets([text]))
    covered = b"".join(text[a:b] for a, b in zip(start, end, strict=True))
    assert covered.replace(b" ", b"") == text.replace(b" ", b"")


@every_tokenizer
def test_files_keep_everything(name, tmp_path, texts):
    tokenizer = made(name)
    tokenizer.save(tmp_path / "tokenizer.json")
    assert json.loads((tmp_path / "tokenizer.json").read_text())["registered_name"] == f"kseq>{name}"
    for again in (Tokenizer.load(tmp_path / "tokenizer.json"), pickle.loads(pickle.dumps(tokenizer))):
        assert type(again) is type(tokenizer)
        assert again.get_config() == tokenizer.get_config()
        assert again.fingerprint == tokenizer.fingerprint
        np.testing.assert_array_equal(again(texts)[0], tokenizer(texts)[0])


@every_tokenizer
def test_the_fingerprint_is_that_of_the_ids_of_a_text(name):
    tokenizer, cls = made(name), type(made(name))
    config = tokenizer.get_config()
    assert cls.from_config({**config, "add_eos": False, "max_length": 9}).fingerprint == tokenizer.fingerprint
    assert cls.from_config({**config, "normalizer": None}).fingerprint != tokenizer.fingerprint


@every_tokenizer
def test_travels_in_a_keras_file(name, tmp_path):
    model = Labeller(made(name))
    expected = model(model.tokenizer(SCRIPTS)[0])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(again.tokenizer(SCRIPTS)[0]), expected)


@pytest.mark.long
@every_tokenizer
def test_datasets_exports_and_sessions_answer_equally(name, tmp_path, texts):
    tokenizer, texts = made(name), texts[::3]

    def serve(text):
        ids, lengths = tokenizer(text)
        starts, ends = tokenizer.offsets(text)
        found = {"ids": ids, "lengths": lengths, "starts": starts, "ends": ends, "strings": tokenizer.strings(text)}
        return {"text": tokenizer.detokenize(ids), **found}

    expected = {key: value.numpy() for key, value in serve(tf.constant(texts)).items()}
    mapped = next(iter(tf.data.Dataset.from_tensor_slices(texts).batch(len(texts)).map(serve)))
    archive = keras.export.ExportArchive()
    archive.track(tokenizer)
    archive.add_endpoint("serving_default", serve, input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    archive.write_out(tmp_path / "export", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "export").signatures["serving_default"](text=tf.constant(texts))
    server = Session(tmp_path / "export", "serving_default")
    served, nothing = server(text=texts), server(text=[])
    assert operations_not_of_tensorflow(server.session.graph) <= TEXT_OPERATIONS
    assert nothing["text"].shape == (0,)
    for key, value in expected.items():
        np.testing.assert_array_equal(mapped[key], value)
        np.testing.assert_array_equal(loaded[key], value)
        np.testing.assert_array_equal(served[key], value)


@pytest.mark.parametrize("name", ["CharacterTokenizer", "WordTokenizer", "ByteTokenizer", "WordPieceTokenizer"])
def test_special_tokens_may_have_other_ids(name):
    special = SpecialTokens(pad="[PAD]", pad_id=2, unk_id=0, bos_id=5, eos_id=4)
    options = {**OPTIONS, "add_bos": True, "special_tokens": special}
    words = {"CharacterTokenizer": list("abc"), "ByteTokenizer": None}.get(name, ["a", "b", "##c"])
    cls = getattr(kseq.text, name)
    tokenizer = cls(**options) if words is None else cls(words, **options)
    assert [tokenizer.vocabulary.strings[place] for place in special.ids] == list(special.strings)
    ids, lengths = tokenizer(["a b", "", "[PAD]"])
    assert ids[1].numpy().tolist() == [5, 4] + [2] * (ids.shape[1] - 2)
    assert lengths.numpy().tolist()[1] == 2
    assert set(ids[2, 1 : lengths[2] - 1].numpy().tolist()) & set(special.ids) <= {0}
    text = tokenizer.detokenize(tokenizer(["ac"])[0]).numpy()[0]
    assert text == {"WordTokenizer": b"<unk>"}.get(name, b"ac")
    again = cls.from_config(tokenizer.get_config())
    np.testing.assert_array_equal(again(["a b", ""])[0], tokenizer(["a b", ""])[0])
