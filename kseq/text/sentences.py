"""Splitting of texts into sentences, in the graph."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, Self

import keras
import tensorflow as tf

from kseq.text.normalization import WHITESPACE, normalized

# Titles, and what stands before a name or number, in English, German and French.
ABBREVIATIONS = (
    *("Mr", "Mrs", "Ms", "Dr", "Prof", "St", "Jr", "Sr", "Gen", "Col", "Lt", "Capt", "Rev", "Hon", "Sen", "Gov"),
    *("vs", "e.g", "i.e", "cf", "al", "etc", "Nos", "Vol", "Fig", "pp", "approx", "Inc", "Ltd", "Co", "Corp"),
    *("z.B", "d.h", "u.a", "bzw", "ca", "Nr", "Hr", "Fr", "Str", "evtl", "ggf", "usw", "vgl", "Abs", "Bd"),
    *("M", "MM", "Mme", "Mlle", "p.ex", "env", "av", "apr"),
)
_CLOSING = r"[\p{Pe}\p{Pf}\"']*"
# Bytes that valid UTF-8 does not contain: the end of a sentence, and a full stop that ends none.
_END, _STOP = b"\xff", b"\xfe"


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SentenceSplitter:
    r"""Splits texts into sentences.

    A sentence ends after full stops, exclamation marks, question marks and ellipses, any number of them and of closing
    quotes and brackets, if white space and no small letter follows; after the marks of Chinese, Japanese, Hindi and
    Arabic whatever follows; and at an empty line. A full stop after an abbreviation or a single capital letter is
    not an end.

    Args:
        abbreviations: What a full stop ends no sentence after, without that stop. Case counts.

    Call arguments:
        text: string `(batch,)`.

    Returns:
        Ragged string `(batch, (sentences))`, without white space at their ends. An empty text has none.

    Raises:
        ValueError: If an abbreviation is empty or not a `str`.

    Example:
        >>> SentenceSplitter()(["Dr. No came. \u201cReally?!\u201d Yes, at 3.30 p.m. sharp."]).to_list()
        [[b'Dr. No came.', b'\xe2\x80\x9cReally?!\xe2\x80\x9d', b'Yes, at 3.30 p.m. sharp.']]
    """

    abbreviations: Iterable[str] = ABBREVIATIONS

    def __post_init__(self) -> None:
        given = () if isinstance(self.abbreviations, str) else tuple(self.abbreviations)
        if isinstance(self.abbreviations, str) or not all(isinstance(each, str) and each for each in given):
            raise ValueError(f"abbreviations must be non-empty strings, but are {self.abbreviations!r}.")
        object.__setattr__(self, "abbreviations", given)

    def __call__(self, text: Any) -> tf.RaggedTensor:
        """Return the sentences, ragged string `(batch, (sentences))`, of `text`, string `(batch,)`."""
        text = normalized(text, None)
        names = "|".join([*map(re.escape, self.abbreviations), r"\p{Lu}"])
        for pattern, rewrite in (
            (rf"(^|[^\p{{L}}\p{{N}}])({names})\.", b"\\1\\2" + _STOP),
            (rf"\.({_CLOSING}{WHITESPACE}+\p{{Ll}})", _STOP + b"\\1"),
            (rf"([.!?\x{{2026}}]{_CLOSING}){WHITESPACE}+", b"\\1" + _END),
            (
                rf"([\x{{3002}}\x{{FF01}}\x{{FF1F}}\x{{FF61}}\x{{0964}}\x{{0965}}\x{{061F}}\x{{06D4}}]+{_CLOSING})",
                b"\\1" + _END,
            ),
            (r"\n[ \t]*\r?\n", _END),
        ):
            text = tf.strings.regex_replace(text, pattern, rewrite)
        sentences = tf.strings.split(text, _END)
        # A pattern must be valid UTF-8, so split and join write the full stops again.
        parts = tf.strings.reduce_join(tf.strings.split(sentences.flat_values, _STOP), axis=-1, separator=".")
        parts = tf.strings.regex_replace(parts, rf"\A{WHITESPACE}+|{WHITESPACE}+\z", "")
        return tf.ragged.boolean_mask(sentences.with_flat_values(parts), sentences.with_flat_values(parts != b""))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"abbreviations": list(self.abbreviations)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that `config` describes."""
        return cls(**config)
