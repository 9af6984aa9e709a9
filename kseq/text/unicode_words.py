"""The tokenizer of words by Unicode's word boundaries."""

from typing import Any

import keras
import tensorflow as tf

from kseq.text.normalization import WHITESPACE, replace_invalid_utf8
from kseq.text.offsets import Offsets, original_places
from kseq.text.tokenizer import Tokenizer

# Marks and invisible characters, which belong to the character before them.
_EXTEND = r"[\p{M}\x{AD}\x{61C}\x{200C}-\x{200F}\x{202A}-\x{202E}\x{2060}-\x{2064}\x{FEFF}]*"
_KATAKANA = r"[\p{Katakana}\x{30A0}\x{30FC}\x{FF70}]"
_UNSPACED = r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_APART = (
    rf"[\p{{Han}}\p{{Hiragana}}]{_EXTEND}|(?:{_KATAKANA}{_EXTEND})+|"
    rf"(?:{_UNSPACED}{_EXTEND})+"
)
_LETTERS = rf"(?:\p{{L}}{_EXTEND})+"
_DIGITS = rf"(?:\p{{Nd}}{_EXTEND})+"
_PICTURE = r"\p{So}[\p{M}\x{1F3FB}-\x{1F3FF}]*"
_WORD = (
    rf"(?:{_LETTERS}(?:[.':\x{{B7}}\x{{2019}}]{_LETTERS})*|{_DIGITS}(?:[.,;'\x{{2019}}]{_DIGITS})*|_{_EXTEND})+|"
    rf"[\x{{1F1E6}}-\x{{1F1FF}}]{{2}}|{_PICTURE}(?:\x{{200D}}{_PICTURE})*|[^\p{{Z}}\t-\r\x1c-\x1f\x{{85}}]{_EXTEND}"
)
_CUT = b"\xff"  # valid UTF-8 does not contain this byte


@keras.saving.register_keras_serializable(package="kseq")
class UnicodeWordTokenizer(Tokenizer):
    r"""Splits a text into words by the default boundaries of Unicode, punctuation apart.

    "don't", "3.14" and "e.g" are words; each other punctuation mark or symbol is one of its own, as are each Chinese
    character, each hiragana, a run of katakana, a flag and a joined emoji. White space is left out. Thai, Lao, Khmer
    and Burmese are written without spaces, and their words need dictionaries: a run of them is one word.

    `detokenize` writes one space between words.

    Arguments, call arguments and errors are those of `Tokenizer`.

    Example:
        >>> UnicodeWordTokenizer().split(tf.constant(["Don't pay $3.14, \u4eba\u4eba!"])).to_list()
        [[b"Don't", b'pay', b'$', b'3.14', b',', b'\xe4\xba\xba', b'\xe4\xba\xba', b'!']]

    Reference:
        Unicode Standard Annex 29, Unicode Text Segmentation.
    """

    separator = " "

    def split(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Return the words, ragged string `(batch, (words))`, of `text`, string `(batch,)`."""
        parts, is_word = _parts(text)
        return tf.ragged.boolean_mask(parts, is_word)

    def locate(self, text: tf.Tensor) -> Offsets:
        """Return the places of the words of `text`, string `(batch,)`."""
        read = replace_invalid_utf8(text)
        parts, is_word = _parts(read)
        lengths = parts.with_flat_values(tf.strings.length(parts.flat_values))
        ends = tf.cumsum(lengths.to_tensor(0), axis=1)  # (batch, parts)
        ends = tf.gather_nd(ends, tf.where(tf.sequence_mask(lengths.row_lengths())))
        places = (lengths.with_flat_values(of) for of in (ends - lengths.flat_values, ends))
        return Offsets(*(original_places(tf.ragged.boolean_mask(of, is_word), read, text) for of in places))


def _parts(text: tf.Tensor) -> tuple[Any, Any]:
    """Return the words and what is between them, ragged string, and which of them are words, ragged bool."""
    for pattern in (_APART, _WORD):
        text = tf.strings.regex_replace(text, pattern, _CUT + b"\\0" + _CUT)
    parts = tf.strings.split(text, _CUT)
    is_word = tf.logical_not(tf.strings.regex_full_match(parts.flat_values, f"{WHITESPACE}*"))
    return parts, parts.with_flat_values(is_word)
