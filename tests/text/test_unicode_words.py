"""Words by Unicode's boundaries."""

import pytest
import tensorflow as tf

from kseq.text import UnicodeWordTokenizer
from tests.text.tokenizers import SCRIPTS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't  pay $3.14, e.g. 1,000;5!", ["Don't", "pay", "$", "3.14", ",", "e.g", ".", "1,000;5", "!"]),
        ("l\u2019\u00e9t\u00e9 snake_case2 a.1 (x)...",
         ["l\u2019\u00e9t\u00e9", "snake_case2", "a", ".", "1", "(", "x", ")", *"..."]),
        ("\u4eba\u4ebaABC\u30ab\u30bf\u30ab\u30ca\u3068\u306f\u3002",
         ["\u4eba", "\u4eba", "ABC", "\u30ab\u30bf\u30ab\u30ca", "\u3068", "\u306f", "\u3002"]),
        ("e\u0301a \ud55c\uad6d\uc5b4 \u05d0\u05b8\u05d1", ["e\u0301a", "\ud55c\uad6d\uc5b4", "\u05d0\u05b8\u05d1"]),
        ("\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22x", ["\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22", "x"]),
        ("\U0001f469\u200d\U0001f469\u200d\U0001f467\U0001f1eb\U0001f1f7\u2764\ufe0f",
         ["\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f1eb\U0001f1f7", "\u2764\ufe0f"]),
        ("", []),
    ],
)  # fmt: skip
def test_splits(text, words):
    assert [word.decode() for word in UnicodeWordTokenizer().split(tf.constant([text])).to_list()[0]] == words


def test_equals_the_default_boundaries_of_another_library():
    regex = pytest.importorskip("regex")
    for text in SCRIPTS:
        if "\u0e01" <= text[0] <= "\u0e7f":
            continue  # Thai needs a dictionary
        expected = [word for word in regex.split(r"(?wV1)\b", text) if word.strip()]
        # Of several marks in a row, and spaces beside them, that library makes more or one; compare the words.
        got = [word.decode() for word in UnicodeWordTokenizer().split(tf.constant([text])).to_list()[0]]
        words = [[each for each in of if any(map(str.isalnum, each))] for of in (got, expected)]
        assert words[0] == words[1]
