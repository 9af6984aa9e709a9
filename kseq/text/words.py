"""The tokenizer of words between white space."""

import keras
import tensorflow as tf

from kseq.text.normalization import WHITESPACE
from kseq.text.tokenizer import Tokenizer


@keras.saving.register_keras_serializable(package="kseq")
class WordTokenizer(Tokenizer):
    r"""Splits a text at white space, as Python's `str.split()` does.

    White space is Unicode's, including no-break and ideographic spaces. Punctuation stays with its word, and
    `detokenize` writes one space between words.

    Arguments, call arguments and errors are those of `Tokenizer`.

    Example:
        >>> tokenizer = WordTokenizer().adapt(["the cat", "the\u00a0dog"])
        >>> ids, lengths = tokenizer(["the dog", "a cat", ""])
        >>> ids.numpy().tolist(), lengths.numpy().tolist()
        ([[4, 6], [1, 5], [0, 0]], [2, 2, 0])
    """

    separator = " "

    def split(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Return the words, ragged string `(batch, (words))`, of `text`, string `(batch,)`."""
        # tf.strings.split splits at ASCII white space only.
        return tf.strings.split(tf.strings.regex_replace(text, f"{WHITESPACE}+", " "))
