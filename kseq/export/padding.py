"""Padding of requests to a bounded number of shapes, in the graph but outside the compiled function."""

from collections.abc import Callable, Sequence
from typing import Literal

import tensorflow as tf

TooLong = Literal["truncate", "error"]


def pad_to_bucket(
    ids: tf.Tensor, lengths: tf.Tensor, buckets: Sequence[int], pad_id: int, too_long: TooLong
) -> tuple[tf.Tensor, tf.Tensor]:
    """Pad `ids` `(batch, time, ...)` to the smallest bucket that holds the longest row.

    Columns beyond the longest row are dropped first: TensorFlow Serving's batching adds such columns, and pads with the
    first element of a tensor.

    Args:
        ids: Token ids `(batch, time)`, or frames `(batch, time, features)`.
        lengths: int `(batch,)`.
        buckets: Increasing lengths.
        pad_id: Value of the padding.
        too_long: Treatment of rows longer than the largest bucket: "truncate" keeps their first steps, "error" fails
            the request with INVALID_ARGUMENT.

    Returns:
        `(ids (batch, bucket, ...), lengths (batch,))`.
    """
    largest, time = buckets[-1], tf.shape(ids)[1]
    checks = [_check_lengths(lengths, time)]
    if too_long == "error":
        checks.append(_check_largest(lengths, largest))
    with tf.control_dependencies(checks):
        lengths = tf.minimum(lengths, largest)
    longest = tf.reduce_max(tf.concat([lengths, [0]], axis=0))
    bucket = tf.reduce_min(tf.boolean_mask(tf.constant(buckets), tf.constant(buckets) >= longest))
    ids = ids[:, :longest]
    rest = [[0, 0]] * (ids.shape.rank - 2)
    ids = tf.pad(ids, tf.convert_to_tensor([[0, 0], [0, bucket - longest], *rest]), constant_values=pad_id)
    real = tf.sequence_mask(lengths, bucket)  # (batch, bucket)
    real = tf.reshape(real, tf.concat([tf.shape(real), [1] * len(rest)], axis=0))
    return tf.where(real, ids, tf.cast(pad_id, ids.dtype)), lengths


def check_ids(ids: tf.Tensor, vocabulary_size: int) -> tf.Tensor:
    """Return `ids`; the request fails with INVALID_ARGUMENT if an id is outside the vocabulary.

    Without this check a plain graph fails too, but a graph compiled by XLA reads another token's embedding.
    """
    inside = tf.reduce_all((ids >= 0) & (ids < vocabulary_size))
    text = (
        f"Each of tokens must be between 0 and {vocabulary_size - 1}, the ids of the model's vocabulary, but they are"
    )
    with tf.control_dependencies([tf.debugging.Assert(inside, [text, ids])]):
        return tf.identity(ids)


def _check_lengths(lengths: tf.Tensor, time: tf.Tensor) -> tf.Operation:
    return tf.debugging.Assert(
        tf.reduce_all((lengths >= 0) & (lengths <= time)),
        [
            "Each length must be between 0 and the number of steps, which is",
            time,
            "but lengths are",
            lengths,
        ],
    )


def _check_largest(lengths: tf.Tensor, largest: int) -> tf.Operation:
    return tf.debugging.Assert(
        tf.reduce_all(lengths <= largest),
        [f"A row has more than {largest} steps, the most that this model takes. The lengths are", lengths],
    )


def in_batches(
    function: Callable[..., dict[str, tf.Tensor]],
    ids: tf.Tensor,
    lengths: tf.Tensor,
    *others: tf.Tensor,
    batch_sizes: Sequence[int],
) -> dict[str, tf.Tensor]:
    """Call `function(ids, lengths, *others)` on batches of the given sizes only, and concatenate the answers.

    Rows of length 0 complete a batch to the smallest size that holds it; a batch above the largest size is split into
    batches of that size. So `function` gets at most as many shapes as there are sizes.

    Args:
        function: Takes `(size, time, ...)` and some `(size,)`; returns a dict of tensors `(size, ...)`.
        ids: `(batch, time, ...)`.
        lengths: int `(batch,)`.
        *others: `(batch,)` each.
        batch_sizes: Increasing sizes.

    Returns:
        The dict of tensors `(batch, ...)`.
    """
    batch, time = tf.shape(ids)[0], tf.shape(ids)[1]
    sizes = tf.constant(batch_sizes)
    size = tf.reduce_min(tf.boolean_mask(sizes, sizes >= tf.minimum(batch, batch_sizes[-1])))
    chunks = tf.maximum((batch + size - 1) // size, 1)
    missing = chunks * size - batch
    rest = ids.shape[2:]
    ids = tf.pad(ids, tf.convert_to_tensor([[0, missing], [0, 0], *[[0, 0] for _ in rest]]))
    ids = tf.reshape(ids, [chunks, size, time, *rest])
    by_row = [tf.reshape(tf.pad(x, tf.convert_to_tensor([[0, missing]])), [chunks, size]) for x in (lengths, *others)]

    # The first chunk runs before the loop, which needs the outputs' shapes; most requests are a single chunk.
    def run_chunk(chunk: tf.Tensor, outputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        more = function(ids[chunk], *(x[chunk] for x in by_row))
        return chunk + 1, {name: tf.concat([outputs[name], more[name]], axis=0) for name in outputs}

    outputs = function(ids[0], *(x[0] for x in by_row))
    shapes = {name: tf.TensorShape([None, *value.shape[1:]]) for name, value in outputs.items()}
    _, outputs = tf.while_loop(
        lambda chunk, _: chunk < chunks,
        run_chunk,
        (tf.constant(1), outputs),
        shape_invariants=(tf.TensorShape([]), shapes),
    )
    return {name: value[:batch] for name, value in outputs.items()}
