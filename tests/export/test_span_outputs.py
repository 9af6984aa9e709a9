"""The spans in the answer of an exported model."""

import tensorflow as tf

import kseq
from kseq.export.span_outputs import span_outputs
from kseq.tag_schemes import span_rules

NAMES = ["O", "B-X", "I-X", "B-Y"]
RULES = span_rules(NAMES, "BIO")
TAGS = tf.constant([[1, 2, 0, 3], [0, 0, 0, -1], [3, 1, 1, 2]])


def test_places_are_bytes_of_the_text():
    texts = ["Äpfel  auf dem Baum", "a b c", "x y z u"]
    starts, ends = kseq.text.WordTokenizer(["a"]).offsets(texts)
    spans = span_outputs(RULES, TAGS, starts, ends)
    assert spans["span_starts"].numpy().tolist() == [[0, 16, -1], [-1, -1, -1], [0, 2, 4]]
    assert spans["span_ends"].numpy().tolist() == [[11, 20, -1], [-1, -1, -1], [1, 3, 7]]
    assert spans["span_types"].numpy().tolist() == [[b"X", b"Y", b""], [b"", b"", b""], [b"Y", b"X", b"X"]]
    assert texts[0].encode()[0:11].decode() == "Äpfel  auf"


def test_without_a_text_they_are_tokens():
    spans = span_outputs(RULES, TAGS, None, None)
    assert spans["span_starts"].numpy().tolist() == [[0, 3, -1], [-1, -1, -1], [0, 1, 2]]
    assert spans["span_ends"].numpy().tolist() == [[2, 4, -1], [-1, -1, -1], [1, 2, 4]]
    none = span_outputs(RULES, TAGS[1:2], None, None)
    assert {name: tuple(value.shape) for name, value in none.items()} == dict.fromkeys(none, (1, 0))
