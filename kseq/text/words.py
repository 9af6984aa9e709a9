"""The tokenizer of words between white space."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from kseq.numbers import flag
from kseq.text.normalization import WHITESPACE
from kseq.text.offsets import Offsets, word_offsets
from kseq.text.tokenizer import Tokenizer
from kseq.text.vocabulary import Vocabulary

MARK = r"[\p{P}\p{S}]"  # punctuation and symbols


@keras.saving.register_keras_serializable(package="kseq")
class WordTokenizer(Tokenizer):
    r"""Splits a text at white space, as Python's `str.split()` does.

    White space is Unicode's, including no-break and ideographic spaces. Punctuation stays with its word unless it is
    split off. `detokenize` writes one space between words.

    Args:
        vocabulary: See `Tokenizer`.
        split_punctuation: Whether each punctuation mark and symbol (Unicode's categories P and S) is a word of its own,
            as in corpora of named entities: "(APC)," is the words "(", "APC", ")" and ",".
        **kwargs: Other arguments of `Tokenizer`.

    Call arguments and errors are those of `Tokenizer`.

    Example:
        >>> tokenizer = WordTokenizer().adapt(["the cat", "the\u00a0dog"])
        >>> ids, lengths = tokenizer(["the dog", "a cat", ""])
        >>> ids.numpy().tolist(), lengths.numpy().tolist()
        ([[4, 6], [1, 5], [0, 0]], [2, 2, 0])
    """

    separator = " "

    def __init__(
        self,
        vocabulary: Vocabulary | Iterable[str] | None = None,
        *,
        split_punctuation: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocabulary, **kwargs)
        self.split_punctuation = flag("split_punctuation", split_punctuation)

    def split(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Return the words, ragged string `(batch, (words))`, of `text`, string `(batch,)`."""
        if self.split_punctuation:
            text = tf.strings.regex_replace(text, f"({MARK})", r" \1 ")
        # tf.strings.split splits at ASCII white space only.
        return tf.strings.split(tf.strings.regex_replace(text, f"{WHITESPACE}+", " "))

    def locate(self, text: tf.Tensor) -> Offsets:
        """Return the places of the words of `text`, string `(batch,)`."""
        return word_offsets(text, MARK if self.split_punctuation else None)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the vocabulary included."""
        return {**super().get_config(), "split_punctuation": self.split_punctuation}
