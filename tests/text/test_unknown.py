"""Replacement of unknown words by source words."""

import numpy as np
import pytest
import tensorflow as tf

from kseq.text import TextNormalizer, WordTokenizer, replace_unknown

SOURCE = WordTokenizer(["the", "cat"], add_bos=True, add_eos=True, normalizer=TextNormalizer(case="lower"))
TARGET = WordTokenizer(["die", "katze"])  # 4 and 5; 1 is unknown, 3 the end
UNK, EOS = 1, 3


def weights(places, source_time=6):
    """Attention weights that are largest at one word for each position, but twice as large at the begin token."""
    values = 0.1 * np.ones((*np.shape(places), source_time), "float32")
    np.put_along_axis(values, np.array(places)[..., None], 0.3, axis=-1)
    values[..., 0] = 0.6
    return values


def test_strings_stand_where_the_ids_do():
    text = ["The Cat sat", "", "Zoë"]
    assert SOURCE.strings(text).numpy().tolist() == [
        [b"", b"the", b"cat", b"sat", b""],
        [b""] * 5,
        [b"", "zoë".encode(), b"", b"", b""],
    ]
    assert SOURCE.strings(text).shape == SOURCE(text)[0].shape
    for truncation, words in (("end", [b"", b"the", b""]), ("start", [b"", b"sat", b""])):
        tokenizer = WordTokenizer(["the"], add_bos=True, add_eos=True, max_length=3, truncation=truncation)
        assert tokenizer.strings(["the cat sat"]).numpy().tolist() == [words]


@pytest.mark.long
def test_unknown_words_are_copied():
    tokens = np.array([[[4, UNK, EOS, UNK], [UNK, 5, 99, EOS]], [[UNK, UNK, 4, EOS], [EOS, 0, 0, 0]]])
    alignments = weights([[[1, 2, 1, 1], [3, 1, 1, 1]], [[1, 1, 1, 1], [1, 1, 1, 1]]])
    strings = SOURCE.strings(["the Cat sat", "Zoë"])
    graph = tf.function(lambda *x: replace_unknown(TARGET, *x))
    for run in (lambda *x: replace_unknown(TARGET, *x), graph):
        texts = run(tokens, alignments, strings)
        assert [[text.decode() for text in row] for row in texts.numpy()] == [
            ["die cat", "sat katze the"],
            ["zoë zoë die", ""],
        ]


def test_with_nothing_to_copy_the_unknown_token_stays():
    alignments = weights([[[1, 1]]], source_time=2)
    for strings in (SOURCE.strings([""]), np.zeros((1, 0), object)):
        assert replace_unknown(TARGET, [[[UNK, 4]]], alignments, strings).numpy().tolist() == [[b"<unk> die"]]


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"shapes \(1, 2\), \(1, 1, 2, 2\) and \(1, 2\)"):
        replace_unknown(TARGET, [[1, 4]], weights([[[1, 1]]], 2), SOURCE.strings([""]))
