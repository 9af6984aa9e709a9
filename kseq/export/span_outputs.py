"""The spans of tags in the answer of an exported model."""

from typing import Any

import tensorflow as tf

from kseq.tag_schemes import SpanRules, find_spans

STARTS, ENDS, TYPES = "span_starts", "span_ends", "span_types"
NO_PLACE = -1  # fills up rows with fewer spans than others


def span_outputs(
    rules: SpanRules, tags: tf.Tensor, starts: tf.Tensor | None, ends: tf.Tensor | None
) -> dict[str, tf.Tensor]:
    """Return the spans of each row from left to right, one column for each span of the row that has the most.

    Args:
        rules: Where spans lie.
        tags: int `(batch, time)`, ids; -1 in the padding.
        starts: int32 `(batch, time)`, the place of each token's start; None counts tokens.
        ends: int32 `(batch, time)`, the place after each token's end.

    Returns:
        `span_starts` and `span_ends`, int32 `(batch, n)`, padded with -1, and `span_types`, string `(batch, n)`, padded
        with the empty text. A span ends before the place `span_ends`.
    """
    if starts is None or ends is None:
        places: Any = tf.zeros_like(tags) + tf.range(tf.shape(tags)[1])
        starts, ends = places, places + 1
    spans = find_spans(tags, tags >= 0, rules)
    types = _columns(spans.types, spans.first)
    return {
        STARTS: _columns(starts, spans.first),
        ENDS: _columns(ends, spans.last),
        TYPES: tf.gather(tf.constant(["", *rules.type_names]), types + 1),
    }


def _columns(values: Any, there: tf.Tensor) -> tf.Tensor:
    """Return the values int `(batch, time)` where `there` is True, one after the other, `(batch, n)`."""
    return tf.ragged.boolean_mask(values, there).to_tensor(NO_PLACE)
