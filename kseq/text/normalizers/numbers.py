"""Replacement of numbers by a placeholder."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from kseq.text.normalization import Normalizer
from kseq.text.replacements import SPACED_WORD, UNSPACED_WORD, replace_matches

_DIGIT = r"\p{Nd}"
_SIGN = r"[-\x{2212}]"
# Digits; words with digits at their end and after them, such as "v2.0"; other words; and points of an ellipsis.
_TOKEN = (
    rf"{_SIGN}?\.?{_DIGIT}+(?:[.,'\x{{2019}}]{_DIGIT}+)*{SPACED_WORD}*|"
    rf"{SPACED_WORD}*{_DIGIT}(?:[.,]{_DIGIT}+)+{SPACED_WORD}*|{SPACED_WORD}+|{UNSPACED_WORD}+|\.\.+"
)
_GROUPED = "|".join(
    rf"{_DIGIT}{{1,3}}(?:{group}{_DIGIT}{{3}})+(?:{decimal}{_DIGIT}+)?"
    for group, decimal in ((",", r"\."), (r"\.", ","), (r"['\x{2019}]", "[.,]"))
)
_NUMBER = rf"{_SIGN}?(?:{_DIGIT}+(?:[.,]{_DIGIT}+)?|\.{_DIGIT}+|{_GROUPED}|{_DIGIT}+(?i:st|nd|rd|th))"


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplaceNumbers(Normalizer):
    r"""Writes a placeholder for each number.

    Numbers are digits of any script, with a minus sign or without, with a decimal point or comma (or only with a point
    before them, ".5"), in groups of three digits between commas, points or apostrophes; and English ordinals such as
    "21st". A hyphen after a word or number is no sign, so "3-4" has two numbers, and a point after a word begins none
    ("p.5"). Digits that touch a letter or an underscore ("B2B", "v2.0") stay, and so do digits in other
    combinations without spaces, such as "1.2.3". Letters of scripts that are written without spaces, such as
    Chinese, Japanese and Thai, do not count as touching. A space ends a number.

    Give `ReplaceDates` before it, or dates have up to three numbers.

    Args:
        placeholder: The string for each number. A tokenizer that splits punctuation off also splits "<number>"; give it
            a word of letters.

    Call arguments are those of `Normalizer`.

    Raises:
        ValueError: If `placeholder` is not a string.

    Example:
        >>> ReplaceNumbers()("-3.5 of 1,000 in B2B").numpy()
        b'<number> of <number> in B2B'
    """

    placeholder: str = "<number>"

    def __post_init__(self) -> None:
        check_placeholder(self.placeholder)

    def normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text`, valid UTF-8 of any shape, with placeholders for numbers."""
        return replace_numbers(text, _NUMBER, lambda numbers: tf.fill(tf.shape(numbers), self.placeholder))


def replace_numbers(text: tf.Tensor, number: str, replace: Any) -> tf.Tensor:
    """Return `text` with other strings for those numbers that a pattern matches.

    Args:
        text: string of any shape, valid UTF-8.
        number: Regular expression of a whole number.
        replace: Returns the strings for numbers, string `(numbers,)`; it also gets "0" for what is no number.
    """

    def replaced(tokens: tf.Tensor, adjacent: tf.Tensor) -> tf.Tensor:
        # After another token, a hyphen is no sign, and a point ends a word or sentence.
        mark = rf"{_SIGN}?\.|{_SIGN}"
        marked = adjacent & tf.strings.regex_full_match(tokens, rf"(?:{mark})[^.](?s:.)*")
        before = tf.where(marked, tf.strings.regex_replace(tokens, rf"\A({mark})(?s:.)*", r"\1"), "")
        tokens = tf.where(marked, tf.strings.regex_replace(tokens, rf"\A(?:{mark})", ""), tokens)
        matched = tf.strings.regex_full_match(tokens, number)
        written = tf.where(matched, replace(tf.where(matched, tokens, "0")), tokens)
        return tf.strings.join([before, written])

    return replace_matches(text, _TOKEN, replaced)


def check_placeholder(placeholder: Any) -> None:
    """Raise ValueError unless a placeholder is a string."""
    if not isinstance(placeholder, str):
        raise ValueError(f"placeholder must be a string such as '<number>', but is {placeholder!r}.")
