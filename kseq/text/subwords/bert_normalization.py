"""The normalisation of BERT's vocabularies, in the graph."""

import dataclasses

import keras
import tensorflow as tf

from kseq.numbers import read_numbers
from kseq.text.normalization import Normalizer, lower
from kseq.text.text_ops import text_ops


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True, kw_only=True)
class BertNormalizer(Normalizer):
    """Normalises texts as BERT's vocabularies expect them; that of `tokenizers` by the same name.

    Args:
        clean_text: Whether to remove control characters and U+FFFD, and to write each white space as a space.
        strip_accents: Whether to remove accents, by Unicode's form NFD. None: as `lowercase`.
        lowercase: Whether to write small letters.

    Call arguments are those of `Normalizer`.
    """

    clean_text: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True

    def __post_init__(self) -> None:
        read_numbers(self)

    def normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text`, valid UTF-8 of any shape, normalised."""
        if self.clean_text:
            text = tf.strings.regex_replace(text, r"[\x00\x{FFFD}]|[^\P{C}\t\n\r]", "")
            text = tf.strings.regex_replace(text, r"[\p{Z}\t\n\r]", " ")
        if self.lowercase if self.strip_accents is None else self.strip_accents:
            text = tf.strings.regex_replace(text_ops().normalize_utf8(text, "NFD"), r"\p{Mn}", "")
        # Each character by itself: a capital sigma at a word's end has no form of its own.
        return lower(tf.strings.regex_replace(text, "\u03a3", "\u03c3")) if self.lowercase else text
