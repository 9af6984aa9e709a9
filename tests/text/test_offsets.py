"""Places of tokens in texts."""

import functools
import unicodedata

import numpy as np
import pytest
import tensorflow as tf

from kseq.text import CharacterTokenizer, Tokenizer, WordTokenizer

PUNCTUATED = functools.partial(WordTokenizer, split_punctuation=True)


@pytest.mark.parametrize("make", [CharacterTokenizer, WordTokenizer, PUNCTUATED])
def test_the_bytes_at_the_places_are_the_tokens(make, nasty_texts):
    tokenizer = make(["a"])
    tokens = tokenizer.split(tokenizer.normalize(nasty_texts)).to_list()
    places = tokenizer.locate(tf.constant(nasty_texts))
    found = [
        [text[start:end].decode("utf-8", "replace") for start, end in zip(starts, ends, strict=True)]
        for text, starts, ends in zip(nasty_texts, places.starts.to_list(), places.ends.to_list(), strict=True)
    ]
    assert found == [[token.decode() for token in row] for row in tokens]


def test_punctuation_is_split_off(readable_texts):
    words = PUNCTUATED().split(tf.constant(readable_texts)).to_list()
    for text, row in zip(readable_texts, words, strict=True):
        spaced = "".join(f" {char} " if unicodedata.category(char)[0] in "PS" else char for char in text)
        assert [word.decode() for word in row] == spaced.split()
    assert PUNCTUATED().split(tf.constant(["coli (APC)."])).to_list() == [[b"coli", b"(", b"APC", b")", b"."]]


@pytest.mark.long
@pytest.mark.parametrize(("truncation", "expected"), [("end", [0, 0, 3, 0]), ("start", [0, 3, 6, 0])])
def test_places_stand_where_the_ids_are(truncation, expected):
    tokenizer = WordTokenizer(["bc"], add_bos=True, add_eos=True, max_length=4, truncation=truncation)
    text = ["a  bc d", ""]
    starts, ends = tf.function(tokenizer.offsets, input_signature=[tf.TensorSpec([None], tf.string)])(text)
    assert starts.shape == tokenizer(text)[0].shape
    assert starts.numpy().tolist() == [expected, [0, 0, 0, 0]]
    assert ends[0].numpy().tolist() == ([0, 1, 5, 0] if truncation == "end" else [0, 5, 7, 0])


def test_texts_without_characters_have_no_places():
    for make in (CharacterTokenizer, WordTokenizer, PUNCTUATED):
        assert make(["a"]).offsets(["", ""])[0].shape == (2, 0)
        assert make(["a"]).offsets(np.zeros(0, str))[0].shape == (0, 0)


def test_classes_without_places_say_so():
    class Halves(Tokenizer):
        def split(self, text):
            return tf.strings.split(text, "|")

    with pytest.raises(NotImplementedError, match="A Halves does not tell where its tokens are"):
        Halves(["a"]).offsets(["a|b"])
