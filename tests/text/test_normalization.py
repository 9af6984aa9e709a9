"""Normalisation, against Python's unicodedata, str.lower and str.split."""

import itertools
import unicodedata

import keras
import numpy as np
import pytest
import tensorflow as tf

from kseq.text import TextNormalizer
from kseq.text.normalization import WHITESPACE


def reference(text: str, *, form="NFKC", case="keep", collapse_whitespace=True, strip=True) -> str:
    def normalize(text: str) -> str:
        return text if form is None else unicodedata.normalize(form, text)

    text = normalize(text)
    text = normalize(text.lower()) if case == "lower" else text
    if collapse_whitespace:
        runs = itertools.groupby(text, key=str.isspace)
        text = "".join(" " if space else "".join(run) for space, run in runs)
    return text.strip() if strip else text


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD", None])
@pytest.mark.parametrize("case", ["keep", "lower"])
@pytest.mark.parametrize("space", [True, False])
def test_equals_python(nasty_texts, readable_texts, form, case, space):
    options = {"form": form, "case": case, "collapse_whitespace": space, "strip": space}
    got = TextNormalizer(**options)(nasty_texts).numpy()
    assert [text.decode() for text in got] == [reference(text, **options) for text in readable_texts]


def test_fold_makes_variants_equal():
    fold = TextNormalizer(case="fold")
    left = ["STRASSE", "\u03a3\u0391\u03a3", "co\u00adop", "\ufb01", "\u212a", "a\x00B"]
    right = ["stra\u00dfe", "\u03c3\u03b1\u03c2", "COOP", "FI", "k", "A\x00b"]
    np.testing.assert_array_equal(fold(left).numpy(), fold(right).numpy())


@pytest.mark.parametrize("case", ["keep", "lower", "fold"])
def test_twice_is_once(nasty_texts, case):
    normalizer = TextNormalizer(case=case)
    once = normalizer(nasty_texts)
    np.testing.assert_array_equal(normalizer(once).numpy(), once.numpy())


@pytest.mark.long
def test_white_space_is_pythons():
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    got = tf.strings.regex_full_match(characters, WHITESPACE).numpy()
    np.testing.assert_array_equal(got, [character.isspace() for character in characters])


@pytest.mark.parametrize("case", ["keep", "lower", "fold"])
def test_graph_equals_eager_in_any_shape(nasty_texts, case):
    normalizer = TextNormalizer(case=case)
    texts = np.array([text + b"!" for text in nasty_texts][:24], dtype=object).reshape(2, 3, 4)
    compiled = tf.function(normalizer, input_signature=[tf.TensorSpec([None, 3, None], tf.string)])
    assert compiled.get_concrete_function().output_shapes.as_list() == [None, 3, None]
    got = compiled(tf.constant(texts))
    assert got.shape == (2, 3, 4)
    np.testing.assert_array_equal(got.numpy(), normalizer(texts).numpy())
    assert normalizer(tf.constant(" A ")).shape == ()
    assert normalizer(tf.zeros([0], tf.string)).shape == (0,)


def test_serialises():
    normalizer = TextNormalizer(form="NFC", case="lower", strip=False)
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(normalizer)) == normalizer


@pytest.mark.parametrize("wrong", [{"form": "NFX"}, {"case": "upper"}])
def test_refuses_unknown_options(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong.values()))):
        TextNormalizer(**wrong)
