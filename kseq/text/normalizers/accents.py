"""Removal of accents."""

import dataclasses
from typing import Literal, get_args

import keras
import tensorflow as tf

from kseq.text.normalization import Normalizer
from kseq.text.text_ops import text_ops

Marks = Literal["diacritics", "all"]
_PATTERNS = {
    # Unicode's blocks of combining diacritical marks, without enclosing marks, such as that of keycap emoji.
    "diacritics": (
        r"[\x{300}-\x{36F}\x{1AB0}-\x{1ABD}\x{1ABF}-\x{1AFF}\x{1DC0}-\x{1DFF}"
        r"\x{20D0}-\x{20DC}\x{20E1}\x{20E5}-\x{20FF}\x{FE20}-\x{FE2F}]+"
    ),
    "all": r"\p{Mn}+",
}


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True, kw_only=True)
class StripAccents(Normalizer):
    r"""Removes accents: the text is decomposed (NFD), its marks are removed, and it is composed again (NFC).

    Letters that Unicode does not decompose stay, such as "ø", "ł", "đ" and "ß", and so do enclosing marks, such as the
    keycap of emoji.

    Args:
        marks: "diacritics" (default): the diacritical marks of Latin, Greek and Cyrillic, so that "й" becomes "и". The
            vowel signs and points of other scripts, such as Hindi, Thai, Arabic and Hebrew, stay, and so do the voicing
            marks of Japanese. "all": every non-spacing mark (Unicode's category Mn), as in BERT and in `tokenizers`.

    Call arguments are those of `Normalizer`.

    Raises:
        ValueError: If `marks` is not one of those above.
        ImportError: In a call, if tensorflow-text cannot be imported.

    Example:
        >>> StripAccents()("\u00c9l\u00e8ve").numpy()
        b'Eleve'
    """

    marks: Marks = "diacritics"

    def __post_init__(self) -> None:
        if self.marks not in get_args(Marks):
            raise ValueError(f"marks must be one of {get_args(Marks)}, but is {self.marks!r}.")

    def normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text`, valid UTF-8 of any shape, without accents."""
        text = tf.strings.regex_replace(text_ops().normalize_utf8(text, "NFD"), _PATTERNS[self.marks], "")
        return text_ops().normalize_utf8(text, "NFC")
