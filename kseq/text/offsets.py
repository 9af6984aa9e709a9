"""Places of tokens in a text, in bytes."""

from typing import Any, NamedTuple

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


def original_places(places: tf.RaggedTensor, read: tf.Tensor, written: tf.Tensor) -> tf.RaggedTensor:
    """Return places in `read` as places in `written`, two texts of which each character stands for one of the other.

    A place inside a character is as many bytes after the character's beginning, at most at its end.

    Args:
        places: ragged int32 `(batch, (tokens))`, in bytes of `read`.
        read: string `(batch,)`, valid UTF-8.
        written: string `(batch,)`, which may contain bytes that are not UTF-8. If it has fewer characters, its end
            stands for the others.
    """
    here, there = _boundaries(read), _boundaries(written)
    # Bytes of all texts are counted through, so that one sorted search serves the batch.
    before = tf.cumsum(tf.strings.length(read) + 1, exclusive=True)  # (batch,)
    boundaries = here.flat_values + tf.gather(before, here.value_rowids())
    row = places.value_rowids()
    wanted = places.flat_values + tf.gather(before, row)
    index = tf.searchsorted(boundaries, wanted, side="right") - 1
    inside = wanted - tf.gather(boundaries, index)  # bytes after the character's beginning
    first, last = (tf.cast(tf.gather(of, row), tf.int32) for of in (there.row_starts(), there.row_limits() - 1))
    index = tf.minimum(index - tf.cast(tf.gather(here.row_starts(), row), tf.int32) + first, last)
    start, end = (tf.gather(there.flat_values, tf.minimum(each, last)) for each in (index, index + 1))
    return places.with_flat_values(start + tf.minimum(inside, end - start))


def _boundaries(text: tf.Tensor) -> Any:
    """Return where the characters of `text`, string `(batch,)`, begin, and where the text ends, ragged int32."""
    _, starts = tf.strings.unicode_decode_with_offsets(text, "UTF-8", errors="replace")
    return tf.concat([tf.cast(starts, tf.int32), tf.strings.length(text)[:, None]], axis=1)
