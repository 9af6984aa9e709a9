"""Replacement of unknown tokens by source tokens."""

from typing import Any

import tensorflow as tf

from kseq.text.tokenizer import Tokenizer


def replace_unknown(target: Tokenizer, tokens: Any, alignments: Any, source_strings: Any) -> tf.Tensor:
    """Return the texts of decoded tokens, each unknown token replaced by the source token with the most attention.

    This copies names and numbers from the source. It is meant for tokenizers of words; source tokens are copied as the
    source tokenizer normalises them.

    Args:
        target: The tokenizer of the outputs.
        tokens: int `(batch, n, time)`, as in `kseq.decoding.Decoded`.
        alignments: Float `(batch, n, time, source time)`, as in `kseq.decoding.Decoded`: the attention weights with
            which each token was predicted.
        source_strings: string `(batch, source time)`, the source tokenizer's `strings(text)`; its padding may differ
            from that of `alignments`. Empty strings (begin, end, padding) are not copied.

    Returns:
        string `(batch, n)`. Where all source strings are empty, the unknown token's string stays.

    Raises:
        ValueError: If a tensor has the wrong rank.

    Example:
        >>> decoded = model.decode(*source(text), strategy=kseq.decoding.BeamSearch(), max_length=20)
        >>> kseq.text.replace_unknown(target, decoded.tokens, decoded.alignments, source.strings(text))

    Reference: M.-T. Luong, I. Sutskever, Q. Le, O. Vinyals, W. Zaremba, "Addressing the rare word problem in neural
    machine translation", 2015; attention weights replace their aligner.
    """
    tokens, alignments = tf.convert_to_tensor(tokens), tf.convert_to_tensor(alignments)
    strings = tf.convert_to_tensor(source_strings, tf.string)
    ranks = (tokens.shape.rank, alignments.shape.rank, strings.shape.rank)
    if ranks != (3, 4, 2):
        raise ValueError(
            "replace_unknown needs tokens (batch, n, time), alignments (batch, n, time, source time) and strings "
            f"(batch, source time), but they have shapes {tokens.shape}, {alignments.shape} and {strings.shape}."
        )
    # Pad strings to the width of the weights, which the export pads to a bucket, and add one empty string.
    missing = tf.maximum(tf.shape(alignments)[3] - tf.shape(strings)[1], 0)
    strings = tf.pad(strings, tf.convert_to_tensor([[0, 0], [0, missing + 1]]), constant_values="")
    more = tf.shape(strings)[1] - tf.shape(alignments)[3]
    weights = tf.pad(alignments, tf.convert_to_tensor([[0, 0], [0, 0], [0, 0], [0, more]]))
    copied = tf.where((strings != "")[:, None, None, :], weights, -1.0)
    most = tf.argmax(copied, axis=-1, output_type=tf.int32)  # (batch, n, time)
    return target.detokenize(tokens, replacements=tf.gather(strings, most, axis=1, batch_dims=1))
