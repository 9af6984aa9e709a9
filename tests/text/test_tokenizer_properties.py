"""Tokenizers on texts that hypothesis makes: round trips, hostile bytes, and equal answers wherever they run."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kseq.text import Tokenizer
from tests.export.test_saved_model import Session
from tests.text.tokenizers import LOSSLESS, MAKERS, SCRIPTS, made

NAMES = sorted(MAKERS)
every_tokenizer = pytest.mark.parametrize("name", NAMES)
QUICK = settings(max_examples=8, deadline=None, derandomize=True, database=None)
THOROUGH = settings(QUICK, max_examples=400)
SPACE_OF_PIECES = "\u2581"

SPECIAL = [
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    "##",
    "\u2581",
    "\u0120",
    "'s",
    "\r\n",
    "\u00a0",
    "\u200d",
    "\x00",
    "\ufeff",
]
PIECES = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=8),  # all planes
    st.text(st.characters(categories=["Mn", "Mc", "Me", "Cc", "Cf", "Zs", "Zl", "Zp", "Co", "Cn"], codec="utf-8")),
    st.text(st.characters(max_codepoint=0x7F), max_size=12),
    st.sampled_from(SPECIAL),
    st.sampled_from([word for text in SCRIPTS for word in text.split()]),
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)
BATCHES = st.lists(TEXTS, min_size=1, max_size=8)
BYTES = st.lists(st.one_of(st.binary(max_size=40), TEXTS.map(str.encode)), min_size=1, max_size=8)


def check_round_trip(name: str, texts: list) -> None:
    """Assert that a text comes back by the stated rule: unknown tokens as they are written, spaces by the class."""
    tokenizer = made(name)
    ids, _ = tokenizer(texts)
    expected = tokenizer.normalize(texts).numpy()
    if name in LOSSLESS:
        got = tokenizer.detokenize(ids).numpy()
        if name == "SentencePieceTokenizer":
            expected = [text.replace(SPACE_OF_PIECES.encode(), b" ") for text in expected]
        assert list(got) == list(expected)
        return
    got = tokenizer.detokenize(ids, replacements=tokenizer.strings(texts)).numpy()
    decoded = [[text.decode() for text in each] for each in (got, expected)]
    if name == "CharacterTokenizer":
        assert decoded[0] == decoded[1]
    elif name == "WordTokenizer":  # one space between words
        assert decoded[0] == [" ".join(text.split()) for text in decoded[1]]
    else:  # spaces around marks and Chinese characters
        assert [without_spaces(text) for text in decoded[0]] == [without_spaces(text) for text in decoded[1]]


def without_spaces(text: str) -> str:
    return "".join(text.split())


def check_rows(tokenizer: Tokenizer, texts: list) -> None:
    """Assert that ids, lengths, strings and places are inside their ranges, and a row alone is the row in its batch."""
    ids, lengths = (each.numpy() for each in tokenizer(texts))
    starts, ends = (each.numpy() for each in tokenizer.offsets(texts))
    assert ((ids >= 0) & (ids < tokenizer.vocabulary_size)).all()
    assert tokenizer.strings(texts).shape == starts.shape == ends.shape == ids.shape
    assert (ids[np.arange(len(ids)), lengths - 1] == tokenizer.eos_id).all()
    assert (starts <= ends).all()
    assert (ends <= [[len(text)] for text in texts]).all()
    alone = tokenizer(texts[-1:])[0].numpy()[0]
    np.testing.assert_array_equal(alone, ids[-1, : lengths[-1]])


@pytest.fixture(scope="module")
def ways(tmp_path_factory):
    """Return a function from the name of a tokenizer to its answers in tf.data, an export and a session."""
    made_ways = {}

    def of(name: str) -> list:
        if name not in made_ways:
            tokenizer, folder = made(name), tmp_path_factory.mktemp(name)

            def serve(text):
                ids, lengths = tokenizer(text)
                return {"ids": ids, "lengths": lengths, "text": tokenizer.detokenize(ids)}

            archive = keras.export.ExportArchive()
            archive.track(tokenizer)
            spec = tf.TensorSpec([None], tf.string, name="text")
            archive.add_endpoint("serving_default", serve, input_signature=[spec])
            archive.write_out(folder / "export", verbose=False)
            loaded = tf.saved_model.load(folder / "export").signatures["serving_default"]
            session = Session(folder / "export", "serving_default")
            made_ways[name] = [
                serve,
                lambda texts: next(iter(tf.data.Dataset.from_tensors(texts).map(serve))),
                lambda texts: loaded(text=texts),
                lambda texts: session(text=texts.numpy()),
            ]
        return made_ways[name]

    return of


def check_ways(ways, name: str, texts: list) -> None:
    """Assert that Python, tf.data, the exported graph and a session of TensorFlow 1 answer equally."""
    first, *others = (way(tf.constant(texts)) for way in ways(name))
    for other in others:
        assert set(other) == set(first)
        for key, value in first.items():
            np.testing.assert_array_equal(np.asarray(other[key]), value.numpy(), err_msg=key)


@pytest.mark.mostly_long("SentencePieceTokenizer", "CharacterTokenizer")
@every_tokenizer
@QUICK
@given(texts=BATCHES)
def test_made_texts_come_back_by_the_stated_rule(name, texts):
    check_round_trip(name, texts)


@pytest.mark.long
@every_tokenizer
@QUICK
@given(texts=BYTES)
def test_any_bytes_give_rows_of_the_contract(name, texts):
    check_rows(made(name), texts)


@every_tokenizer
def test_lone_surrogates_are_refused(name):
    with pytest.raises(TypeError, match=r"Text 1 is 'b.ud800c', which has a lone surrogate"):
        made(name)(["a", "b\ud800c"])


@pytest.mark.slow
@every_tokenizer
@THOROUGH
@given(texts=BATCHES)
def test_many_made_texts_come_back_by_the_stated_rule(name, texts):
    check_round_trip(name, texts)


@pytest.mark.slow
@every_tokenizer
@settings(QUICK, max_examples=60)
@given(texts=BYTES)
def test_all_ways_answer_any_bytes_equally(ways, name, texts):
    check_ways(ways, name, texts)
