"""Sentences."""

import keras
import pytest
import tensorflow as tf

from kseq.text import SentenceSplitter


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Really?! Yes... \u201cNo.\u201d (Perhaps.) End",
         ["Really?!", "Yes...", "\u201cNo.\u201d", "(Perhaps.)", "End"]),
        ("Dr. Smith met J. R. Jones, e.g. at 3.30 p.m. there. Fine.",
         ["Dr. Smith met J. R. Jones, e.g. at 3.30 p.m. there.", "Fine."]),
        ("Das kostet z.B. 3 Euro. Nr. 5 lebt!  Ja.", ["Das kostet z.B. 3 Euro.", "Nr. 5 lebt!", "Ja."]),
        ("\u4ed6\u6765\u4e86\u3002\u4f60\u5462\uff1f\uff01\u597d",
         ["\u4ed6\u6765\u4e86\u3002", "\u4f60\u5462\uff1f\uff01", "\u597d"]),
        ("A title\n\nA text. It ends", ["A title", "A text.", "It ends"]),
        ("He said etc. and went. version 1.2.3 is out", ["He said etc. and went. version 1.2.3 is out"]),
        ("", []), (" \n ", []), ("...", ["..."]),
    ],
)  # fmt: skip
def test_splits(text, sentences):
    assert [each.decode() for each in SentenceSplitter()([text]).to_list()[0]] == sentences


@pytest.mark.long
def test_no_text_is_lost_whatever_its_bytes(nasty_texts):
    splitter = SentenceSplitter()
    compiled = tf.function(splitter, input_signature=[tf.TensorSpec([None], tf.string)])
    got = compiled(tf.constant(nasty_texts)).to_list()
    assert got == splitter(nasty_texts).to_list()
    for text, sentences in zip(nasty_texts, got, strict=True):
        joined = b" ".join(sentences).decode()
        assert "".join(joined.split()) == "".join(text.decode("utf-8", "replace").split())


def test_abbreviations_are_replaceable_and_saved():
    splitter = SentenceSplitter(abbreviations=["Abc"])
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(splitter))
    assert again == splitter
    assert again(["Abc. Dr. D"]).to_list() == [[b"Abc. Dr.", b"D"]]
    for wrong in ("Dr", ["Dr", ""], [1]):
        with pytest.raises(ValueError, match="abbreviations must be non-empty strings"):
            SentenceSplitter(abbreviations=wrong)
