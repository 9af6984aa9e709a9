"""Text as words between white space."""

import keras
import tensorflow as tf

from kseq.text.normalization import WHITESPACE
from kseq.text.tokenizer import Tokenizer


@keras.saving.register_keras_serializable(package="kseq")
class WordTokenizer(Tokenizer):
    r"""Every run of characters that are not white space is a token, as in Python's `str.split()`.

    White space is Unicode's, with no-break and ideographic space. Punctuation stays with its word, and `detokenize`
    puts one space between words.

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
        # tf.strings.split knows ASCII white space only.
        return tf.strings.split(tf.strings.regex_replace(text, f"{WHITESPACE}+", " "))
