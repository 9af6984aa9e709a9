"""Replacement of the matches of a regular expression by a function of them, in the graph."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

_CUT = b"\xff"  # valid UTF-8 does not contain this byte
_LARGEST = 2**63 - 1

WORD = r"[\p{L}\p{M}\p{N}_]"  # a character of a word
# Characters of words in scripts that are written without spaces, and those of other words.
_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\x{30FC}\x{FF70}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
UNSPACED_WORD = f"[{_SCRIPTS}]"
SPACED_WORD = rf"(?:_|[^\p{{P}}\p{{S}}\p{{Z}}\p{{C}}{_SCRIPTS}])"


def replace_matches(text: tf.Tensor, pattern: str, replace: Callable[[Any, Any], Any]) -> tf.Tensor:
    """Return `text` with other strings in place of the matches of a pattern.

    Args:
        text: string of any shape, valid UTF-8.
        pattern: Regular expression of RE2 that does not match an empty string.
        replace: Returns the new strings of the matches, string `(matches,)`, and gets them with a bool `(matches,)`:
            whether a match follows another one immediately.
    """
    marked = tf.strings.regex_replace(tf.reshape(text, [-1]), pattern, _CUT + b"\\0" + _CUT)
    parts = tf.strings.split(marked, _CUT)  # (texts, (parts)), of which every second one is a match
    values = parts.flat_values
    place = tf.ragged.range(parts.row_lengths()).flat_values  # in its text
    index = tf.where(place % 2 == 1)  # (matches, 1)
    before = tf.gather_nd(values, index - 1)
    adjacent = (before == "") & (tf.gather_nd(place, index) > 1)
    values = tf.tensor_scatter_nd_update(values, index, replace(tf.gather_nd(values, index), adjacent))
    joined = tf.strings.reduce_join(parts.with_flat_values(values), axis=-1)
    return tf.ensure_shape(tf.reshape(joined, tf.shape(text)), text.shape)


class StringTable:
    """A table of strings as constants of the graph; unlike TensorFlow's tables, it need not be tracked on export.

    Args:
        keys: Different strings.
    """

    def __init__(self, keys: Sequence[str]):
        with tf.init_scope():
            hashes = _hashes(tf.constant(list(keys), tf.string)).numpy()
            if len(set(hashes.tolist())) < len(keys):
                raise ValueError("Two of the keys are equal, or have the same 63-bit hash. Change one of them.")
            order = np.argsort(hashes)
            self._hashes = tf.constant(hashes[order])
            self._places = tf.constant(order, tf.int32)
            self._keys = tf.constant([keys[place] for place in order], tf.string)

    def find(self, strings: tf.Tensor) -> tf.Tensor:
        """Return the places among the keys of `strings`, of any shape: int32, -1 for those that are no keys."""
        flat = tf.reshape(strings, [-1])
        rank = tf.searchsorted(self._hashes, _hashes(flat))
        rank = tf.minimum(rank, tf.size(self._hashes) - 1)
        found = tf.gather(self._keys, rank) == flat
        return tf.reshape(tf.where(found, tf.gather(self._places, rank), -1), tf.shape(strings))


def _hashes(strings: tf.Tensor) -> Any:
    return tf.strings.to_hash_bucket_fast(strings, _LARGEST)


def constant(values: Any, dtype: Any = tf.string) -> tf.Tensor:
    """Return a constant that several graphs may use."""
    with tf.init_scope():
        return tf.constant(values, dtype)


def literal(string: str) -> str:
    """Return the pattern of RE2 that matches `string`; inside of a class, that matches its characters."""
    return "".join(rf"\x{{{ord(character):X}}}" for character in string)
