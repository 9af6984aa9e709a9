"""The tokenizer of Unicode characters."""

import keras
import tensorflow as tf

from kseq.text.offsets import Offsets, character_offsets
from kseq.text.tokenizer import Tokenizer


@keras.saving.register_keras_serializable(package="kseq")
class CharacterTokenizer(Tokenizer):
    """Splits a text into Unicode code points, white space included.

    A combining mark or a zero-width joiner is a token of its own: `"é"` is one token in the forms NFC and NFKC, two in
    NFD and NFKD, and a joined emoji has as many tokens as code points. `adapt` collects the alphabet.

    Arguments, call arguments and errors are those of `Tokenizer`.

    Example:
        >>> tokenizer = CharacterTokenizer(add_eos=True).adapt(["abba"])
        >>> ids, lengths = tokenizer(["ab", "b?"])
        >>> ids.numpy().tolist(), lengths.numpy().tolist()
        ([[4, 5, 3], [5, 1, 3]], [3, 3])
        >>> tokenizer.detokenize(ids).numpy()
        array([b'ab', b'b<unk>'], dtype=object)
    """

    separator = ""

    def split(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Return the characters, ragged string `(batch, (characters))`, of `text`, string `(batch,)`."""
        return tf.strings.unicode_split(text, "UTF-8")

    def locate(self, text: tf.Tensor) -> Offsets:
        """Return the places of the characters of `text`, string `(batch,)`."""
        return character_offsets(text)[1]
