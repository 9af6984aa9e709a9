"""Truncation of rows that consist of several texts."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import tensorflow as tf

from kseq.numbers import LARGEST_ID, whole
from kseq.text.shaping.rows import as_rows

Strategy = Literal["longest_first", "only_first", "only_second", "error"]
Side = Literal["end", "start"]


def truncate_segments(
    segments: Sequence[Any], max_length: int, *, strategy: Strategy = "longest_first", side: Side = "end"
) -> list[tf.RaggedTensor]:
    """Return the segments of rows, cut so that those of a row have at most `max_length` ids together.

    Args:
        segments: The ids of the first texts, those of the second texts, and so on: each ragged integers
            `(batch, (tokens))`, such as `tokenizer.tokenize(text)`, or lists of lists of integers.
        max_length: The largest number of ids of a row, at least 0.
        strategy: "longest_first" (default) cuts the longest text of a row until it is as long as the second longest,
            then both, and so on. If they cannot be cut evenly, longer texts and later ones keep one id more: for two
            texts this is what the library `tokenizers` does. "only_first" and "only_second" cut that text alone.
            "error" cuts nothing.
        side: "end" (default) drops the last ids of a text, "start" the first ones.

    Returns:
        As many segments, ragged int32.

    Raises:
        ValueError: If an argument is none of these, or the segments have different numbers of rows.
        tf.errors.InvalidArgumentError: If a row is still too long, which happens with other strategies than
            "longest_first" alone. In a graph it is raised when the graph runs, and fails the whole batch, so serve
            models with "longest_first".

    Example:
        >>> first, second = truncate_segments([[[1, 2, 3, 4, 5]], [[6, 7]]], 5)
        >>> first.to_list(), second.to_list()
        ([[1, 2, 3]], [[6, 7]])
    """
    check_strategy(strategy, side)
    length = whole("max_length", max_length)
    if length < 0:
        raise ValueError(f"max_length must be at least 0, but is {length}.")
    return truncated(as_segments(segments), length, strategy, side)


def check_strategy(strategy: Any, side: Any) -> None:
    """Raise ValueError unless `strategy` and `side` are known."""
    if strategy not in get_args(Strategy):
        raise ValueError(f"strategy must be one of {get_args(Strategy)}, but is {strategy!r}.")
    if side not in get_args(Side):
        raise ValueError(f"side must be one of {get_args(Side)}, but is {side!r}.")


def as_segments(segments: Sequence[Any]) -> list[Any]:
    """Return segments as ragged int32 `(batch, (tokens))` each, of the same number of rows.

    Raises:
        ValueError: If there are none, one is not of ids, or the numbers of rows differ.
    """
    if not isinstance(segments, list | tuple) or not segments:
        raise ValueError(f"Expected a list of one segment of ids or more, but got {segments!r}.")
    rows: list[Any] = [as_rows(each, f"segment {place} of the list of segments") for place, each in enumerate(segments)]
    counts = [each.shape[0] for each in rows]
    if len({count for count in counts if count is not None}) > 1:
        raise ValueError(f"The segments have {counts} rows. Give as many second texts as first ones.")
    return rows


def truncated(segments: list[Any], room: int, strategy: Strategy, side: Side) -> list[tf.RaggedTensor]:
    """Return `segments`, ragged int32 `(batch, (tokens))`, of at most `room` ids a row."""
    lengths = tf.stack([tf.cast(rows.row_lengths(), tf.int32) for rows in segments])  # (segments, batch)
    count, room = len(segments), min(room, LARGEST_ID)
    longest_first = strategy == "longest_first"
    kept = _longest_first(lengths, count, room) if longest_first else _only_one(lengths, count, room, strategy)
    return [_cut(rows, length, side) for rows, length in zip(segments, tf.unstack(kept, count), strict=True)]


def _longest_first(lengths: tf.Tensor, count: int, room: int) -> tf.Tensor:
    """Return how many ids of each text stay, int32 `(segments, batch)`."""
    order = tf.argsort(lengths, axis=0, stable=True)  # the shortest first
    left = tf.fill(tf.shape(lengths)[1:], room)
    shares = []
    for place, length in enumerate(tf.unstack(tf.sort(lengths, axis=0), count)):
        shares.append(tf.minimum(length, left // (count - place)))
        left -= shares[-1]
    places = tf.transpose(tf.argsort(order, axis=0))  # (batch, segments), of each text among the sorted ones
    return tf.transpose(tf.gather(tf.stack(shares, axis=1), places, batch_dims=1, axis=1))


def _only_one(lengths: tf.Tensor, count: int, room: int, strategy: Strategy) -> tf.Tensor:
    """Return how many ids of each text stay, `(segments, batch)`, or fail if they are too many."""
    cut = {"only_first": 0, "only_second": 1}.get(strategy)
    if cut is not None and cut >= count:
        raise ValueError(f"strategy={strategy!r} needs two segments, but there is {count}.")
    total = tf.reduce_sum(lengths, axis=0)
    fixed = total if cut is None else total - lengths[cut]
    what = "The texts of a row have" if cut is None else "The texts of a row that strategy must not cut have"
    check = tf.debugging.assert_less_equal(
        fixed,
        room,
        f"{what} more ids than the {room} that max_length leaves (strategy={strategy!r}). Shorten the texts, increase "
        'max_length, or cut them with "longest_first".',
    )
    with tf.control_dependencies([] if check is None else [check]):
        if cut is None:
            return tf.identity(lengths)
        kept = tf.unstack(lengths, count)
        kept[cut] = tf.minimum(kept[cut], room - fixed)
        return tf.stack(kept)


def _cut(rows: Any, kept: tf.Tensor, side: Side) -> Any:
    """Return the first or last `kept` ids of each of `rows`."""
    places = tf.ragged.range(tf.cast(rows.row_lengths(), tf.int32))
    if side == "end":
        stays = places < kept[:, None]
    else:
        stays = places >= (tf.cast(rows.row_lengths(), tf.int32) - kept)[:, None]
    return tf.ragged.boolean_mask(rows, stays)
