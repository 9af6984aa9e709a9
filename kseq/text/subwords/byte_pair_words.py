"""The patterns by which tokenizers of byte pairs cut a text into words."""

from typing import NamedTuple

import tensorflow as tf

CUT = b"\xff"  # ends a word: valid UTF-8 does not contain this byte
_SPACE = r"\p{Z}\t-\r\x{85}"  # Unicode's white space
_SPACE_IN_LINES = r"\p{Z}\t\v\f\x{85}"  # the same without the ends of lines
_ENDINGS = "'s|'t|'re|'ve|'m|'ll|'d"


class WordPattern(NamedTuple):
    r"""A pattern of words.

    Published patterns end in `\s+(?!\S)|\s+`: of a run of white space, the last character belongs to the word after it.
    RE2, which runs in the graph, has no look-ahead. So a first replacement cuts runs before their last character, and
    the second one, in which `\s+` is the rest of a run, finds the words.

    Attributes:
        published: The pattern as a `tokenizer.json` writes it.
        last_space: RE2's pattern of the end of a run of white space, as two groups between which the run is cut.
        words: RE2's pattern of words, after that cut.
    """

    published: str
    last_space: str
    words: str

    def cut(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text`, string `(batch,)`, with `CUT` after each word."""
        text = tf.strings.regex_replace(text, self.last_space, b"\\1" + CUT + b"\\2")
        return tf.strings.regex_replace(text, self.words, b"\\0" + CUT)


def _pattern(published: str, last: str) -> WordPattern:
    words = published.removesuffix(r"|\s+(?!\S)|\s+") + r"|\s+"
    words = words.replace(r"[^\s", f"[^{_SPACE}").replace(r"\s", f"[{_SPACE}]")
    return WordPattern(published, rf"([{_SPACE}])([{last}][^{_SPACE}])", words)


_NEWER = (
    rf"(?i:{_ENDINGS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|DIGITS| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The newer patterns keep the ends of lines with the white space before them, so no run is cut before one.
WORD_PATTERNS = {
    "gpt2": _pattern(rf"{_ENDINGS}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+", _SPACE),
    "llama3": _pattern(_NEWER.replace("DIGITS", r"\p{N}{1,3}"), _SPACE_IN_LINES),
    "qwen2": _pattern(_NEWER.replace("DIGITS", r"\p{N}"), _SPACE_IN_LINES),
}
