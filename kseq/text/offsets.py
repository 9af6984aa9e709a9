"""Places of tokens in a text, in bytes."""

from typing import NamedTuple

import tensorflow as tf

from kseq.text.normalization import WHITESPACE


class Offsets(NamedTuple):
    """Where the tokens of texts are, in bytes of the texts as they are written, of which some may not be UTF-8.

    Attributes:
        starts: ragged int32 `(batch, (tokens))`, the place of a token's first byte.
        ends: ragged int32 `(batch, (tokens))`, the place after a token's last byte.
    """

    starts: tf.RaggedTensor
    ends: tf.RaggedTensor


def character_offsets(text: tf.Tensor) -> tuple[tf.RaggedTensor, Offsets]:
    """Return the code points of `text`, string `(batch,)`, ragged string `(batch, (characters))`, and their places.

    An ill-formed sequence of bytes is U+FFFD, as in `replace_invalid_utf8`.
    """
    characters, starts = tf.strings.unicode_split_with_offsets(text, "UTF-8", errors="replace")
    starts = tf.cast(starts, tf.int32)
    following = tf.concat([starts, tf.strings.length(text)[:, None]], axis=1)  # a RaggedTensor
    ends = tf.ragged.boolean_mask(following, tf.ragged.range(following.row_lengths()) > 0)
    return characters, Offsets(starts, ends)


def word_offsets(text: tf.Tensor, mark: str | None = None) -> Offsets:
    """Return the places of the words of `text`, string `(batch,)`, between white space.

    Args:
        text: The texts.
        mark: Regular expression of characters that are words of their own, or None.
    """
    characters, places = character_offsets(text)
    inside = ~tf.strings.regex_full_match(characters.flat_values, WHITESPACE)  # (all characters,)
    row = characters.value_rowids()
    joins = inside[:-1] & inside[1:] & (row[:-1] == row[1:])
    if mark is not None:
        alone = tf.strings.regex_full_match(characters.flat_values, mark)
        joins &= ~(alone[:-1] | alone[1:])
    none = tf.fill([tf.minimum(tf.size(inside), 1)], False)
    starts = inside & tf.logical_not(tf.concat([none, joins], axis=0))
    ends = inside & tf.logical_not(tf.concat([joins, none], axis=0))
    kept = (
        tf.ragged.boolean_mask(of, characters.with_flat_values(flags))
        for of, flags in ((places.starts, starts), (places.ends, ends))
    )
    return Offsets(*kept)
