"""The normalisation of BERT's vocabularies, in the graph."""

import dataclasses
from typing import Any, Self

import keras
import tensorflow as tf

from kseq.numbers import read_numbers
from kseq.text.normalization import lower, replace_invalid_utf8
from kseq.text.text_ops import text_ops


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True, kw_only=True)
class BertNormalizer:
    """Normalises texts as BERT's vocabularies expect them; that of `tokenizers` by the same name.

    Args:
        clean_text: Whether to remove control characters and U+FFFD, and to write each white space as a space.
        strip_accents: Whether to remove accents, by Unicode's form NFD. None: as `lowercase`.
        lowercase: Whether to write small letters.

    Call arguments:
        text: string, any shape.

    Returns:
        string, the shape of `text`.
    """

    clean_text: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True

    def __post_init__(self) -> None:
        read_numbers(self)

    def __call__(self, text: Any) -> tf.Tensor:
        """Return `text`, string of any shape, normalised."""
        text = replace_invalid_utf8(text)
        if self.clean_text:
            text = tf.strings.regex_replace(text, r"[\x00\x{FFFD}]|[^\P{C}\t\n\r]", "")
            text = tf.strings.regex_replace(text, r"[\p{Z}\t\n\r]", " ")
        if self.lowercase if self.strip_accents is None else self.strip_accents:
            text = tf.strings.regex_replace(text_ops().normalize_utf8(text, "NFD"), r"\p{Mn}", "")
        # Each character by itself: a capital sigma at a word's end has no form of its own.
        return lower(tf.strings.regex_replace(text, "\u03a3", "\u03c3")) if self.lowercase else text

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that `config` describes."""
        return cls(**config)
