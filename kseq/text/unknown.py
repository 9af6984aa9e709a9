"""Words that the vocabulary lacks, copied from the source."""

from typing import Any

import tensorflow as tf

from kseq.text.tokenizer import Tokenizer


def replace_unknown(target: Tokenizer, tokens: Any, alignments: Any, source_strings: Any) -> tf.Tensor:
    """Return the texts of decoded tokens, with the most attended source token for each unknown one.

    Names and numbers are so copied from the source. It is made of stock operations, so it is served as it is tested.
    It is meant for tokenizers of words; what the source's tokenizer normalised is copied normalised.

    Args:
        target: The tokenizer of the outputs.
        tokens: int `(batch, n, time)`, as in `kseq.decoding.Decoded`.
        alignments: float `(batch, n, time, source time)`, the same: what each token was predicted with.
        source_strings: string `(batch, source time)`, the source tokenizer's `strings(text)`; a longer or a shorter
            one, of other padding, will do. Where it is empty (begin, end, padding) is nothing to copy.

    Returns:
        string `(batch, n)`. With nothing to copy at all, the unknown token's string stays.

    Raises:
        ValueError: If the tensors have other ranks.

    Example:
        >>> decoded = model.decode(*source(text), strategy=kseq.decoding.BeamSearch(), max_length=20)
        >>> kseq.text.replace_unknown(target, decoded.tokens, decoded.alignments, source.strings(text))

    Reference: M.-T. Luong, I. Sutskever, Q. Le, O. Vinyals, W. Zaremba, "Addressing the rare word problem in neural
    machine translation", 2015; the attention's weights stand for the aligner.
    """
    tokens, alignments = tf.convert_to_tensor(tokens), tf.convert_to_tensor(alignments)
    strings = tf.convert_to_tensor(source_strings, tf.string)
    ranks = (tokens.shape.rank, alignments.shape.rank, strings.shape.rank)
    if ranks != (3, 4, 2):
        raise ValueError(
            "replace_unknown needs tokens (batch, n, time), alignments (batch, n, time, source time) and strings "
            f"(batch, source time), but they have shapes {tokens.shape}, {alignments.shape} and {strings.shape}."
        )
    # One empty string at least, and as many as there are weights: lengths are padded to buckets before the model.
    missing = tf.maximum(tf.shape(alignments)[3] - tf.shape(strings)[1], 0)
    strings = tf.pad(strings, tf.convert_to_tensor([[0, 0], [0, missing + 1]]), constant_values="")
    more = tf.shape(strings)[1] - tf.shape(alignments)[3]
    weights = tf.pad(alignments, tf.convert_to_tensor([[0, 0], [0, 0], [0, 0], [0, more]]))
    copied = tf.where((strings != "")[:, None, None, :], weights, -1.0)
    most = tf.argmax(copied, axis=-1, output_type=tf.int32)  # (batch, n, time)
    return target.detokenize(tokens, replacements=tf.gather(strings, most, axis=1, batch_dims=1))
