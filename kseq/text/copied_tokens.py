"""Source tokens in targets, for models that copy: `kseq.models.PointerDecoder`."""

from typing import Any

import tensorflow as tf

from kseq.text.tokenizer import Tokenizer

NO_COPY = -1


def copied_ids(source: Tokenizer, target: Tokenizer) -> list[int]:
    """Return the target id of each source id, as `kseq.models.PointerDecoder(copies=...)` takes them.

    It is -1 for tokens that the target's vocabulary lacks, and for the unknown token. The source's padding, begin and
    end tokens are unknown tokens of the target, because texts do not contain them.

    Example:
        >>> copied_ids(WordTokenizer(["a", "b"]), WordTokenizer(["b"]))
        [1, -1, 1, 1, -1, 4]
    """
    tokens = source.vocabulary.tokens(tf.range(source.vocabulary_size))
    ids = target.vocabulary.lookup(tokens).numpy().tolist()
    copied = [NO_COPY if each in target.special_tokens.ids else each for each in ids]
    for special in source.special_tokens.ids:
        copied[special] = NO_COPY if special == source.unk_id else target.unk_id
    return copied


def replace_copies(target: Tokenizer, tokens: Any, source_strings: Any) -> tf.Tensor:
    """Return the texts of tokens that a `kseq.models.PointerDecoder` wrote, with copied tokens as the source has them.

    Args:
        target: The tokenizer of the outputs.
        tokens: int `(batch, n, time)`, as in `kseq.decoding.Decoded`; the id `target.vocabulary_size + position` is the
            source token at that position.
        source_strings: string `(batch, source time)`, the source tokenizer's `strings(text)`.

    Returns:
        string `(batch, n)`.

    Raises:
        ValueError: If a tensor has the wrong rank.
    """
    tokens, strings = tf.convert_to_tensor(tokens), tf.convert_to_tensor(source_strings, tf.string)
    if (tokens.shape.rank, strings.shape.rank) != (3, 2):
        raise ValueError(
            "replace_copies needs tokens (batch, n, time) and strings (batch, source time), but they have shapes "
            f"{tokens.shape} and {strings.shape}."
        )
    strings = tf.pad(strings, tf.constant([[0, 0], [0, 1]]), constant_values="")
    last = tf.shape(strings)[1] - 1  # the empty string: the token is in the vocabulary
    places = tf.cast(tokens, tf.int32) - target.vocabulary_size
    places = tf.where((places < 0) | (places > last), last, places)
    return target.detokenize(tokens, replacements=tf.gather(strings, places, axis=1, batch_dims=1))
