"""Batches of rows of similar length from files that are larger than memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from kseq.numbers import whole
from kseq.training.batch_order import BatchOrder
from kseq.training.buckets import check_sizes


def streamed_batches(
    rows: tf.data.Dataset,
    *,
    batch_size: int,
    buckets: Sequence[int] | Mapping[str, Sequence[int]],
    pad_id: int = 0,
    shuffle_rows: int = 0,
    seed: int | None = None,
    steps: int | None = None,
) -> tf.data.Dataset:
    """Return the batches of a dataset of rows, as `bucket_by_length` makes them of lists.

    The rows are read one after the other, so they may come from files of any size: lines of
    `tf.data.TextLineDataset(paths)` or examples of `tf.data.TFRecordDataset(paths)`, mapped to ids by a tokenizer of
    `kseq.text` or by `tf.io.parse_single_example`. Rows wait until there are `batch_size` ones for the same buckets.
    The last batches are completed by rows of length 0.

    Args:
        rows: Its elements are dicts, name -> int `(time,)`, the ids of a row.
        batch_size: Rows in a batch.
        buckets: Increasing lengths to which sequences are padded, for all names or by name.
        pad_id: Id of the padding.
        shuffle_rows: Number of rows from which the next one is drawn. 0: in their order.
        seed: Seed of the order, at least 0; None: a random one. The order of an epoch depends on it and the epoch's
            number alone.
        steps: Number of batches, for the progress bar and as a check; None: Keras learns it in the first epoch.

    Returns:
        A `tf.data.Dataset`. Its elements are dicts with int32 `(batch_size, bucket)` for each name, and `NAME_lengths`
        int32 `(batch_size,)`. Its attribute `order` is read by `kseq.training.ExactResume`.

    Raises:
        ValueError: If the elements are no dicts of int `(time,)`, the buckets do not increase or are those of other
            names, or an option is out of range. While it runs, TensorFlow's InvalidArgumentError if a row is longer
            than the largest bucket.

    Example:
        >>> lines = tf.data.TextLineDataset("pairs.csv").map(lambda line: tf.strings.split(line, ","))
        >>> ids = lambda pair: {"source": words.tokenize(pair[:1])[0], "target": letters.tokenize(pair[1:])[0]}
        >>> batches = kseq.training.streamed_batches(lines.map(ids), batch_size=32, buckets=(8, 16, 32))
    """
    (batch_size,) = check_sizes([batch_size], "batch_size")
    by_name = _checked_buckets(rows, buckets)
    pad_id, shuffle_rows = whole("pad_id", pad_id), whole("shuffle_rows", shuffle_rows)
    if shuffle_rows < 0 or (seed is not None and whole("seed", seed) < 0):
        raise ValueError(f"shuffle_rows={shuffle_rows} and seed={seed} must be at least 0.")
    about = [str(rows.element_spec), repr((batch_size, by_name, pad_id, shuffle_rows, steps))]
    order = BatchOrder(seed, shuffle=shuffle_rows > 0, rows=about)
    sizes = {name: tf.constant(of, tf.int32) for name, of in by_name.items()}

    def shaped(row: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        return {name: tf.cast(_dense(row[name]), tf.int32) for name in by_name}

    def group_of(row: Mapping[str, tf.Tensor]) -> tf.Tensor:
        group = tf.zeros((), tf.int64)
        for name, of in by_name.items():
            length = tf.size(row[name])
            told = f"A row of {name} is longer than the largest bucket, {of[-1]}. Add one, or truncate the rows."
            with tf.control_dependencies([tf.debugging.assert_less_equal(length, of[-1], told)]):
                place = tf.reduce_sum(tf.cast(length > sizes[name], tf.int64))
            group = group * len(of) + place
        return group

    def batch_of(group: tf.Tensor, window: tf.data.Dataset) -> tf.data.Dataset:
        widths = {}
        for name, of in reversed(by_name.items()):
            count = tf.constant(len(of), tf.int64)
            widths[name] = tf.gather(sizes[name], tf.math.floormod(group, count))
            group = tf.math.floordiv(group, count)
        with_lengths = window.map(lambda row: {**row, **{f"{name}_lengths": tf.size(row[name]) for name in row}})
        shapes = {name: [widths[name]] for name in by_name} | {f"{name}_lengths": [] for name in by_name}
        values = {name: pad_id if name in by_name else 0 for name in shapes}
        padded = with_lengths.padded_batch(batch_size, shapes, values)
        return padded.map(lambda batch: _completed(batch, batch_size, pad_id, list(by_name)))

    ordered = _in_order(rows.map(shaped), shuffle_rows, order)
    batches = ordered.group_by_window(key_func=group_of, reduce_func=batch_of, window_size=batch_size)
    if steps is not None:
        (steps,) = check_sizes([steps], "steps")
        batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
    options = tf.data.Options()
    options.autotune.enabled = False  # as in `bucket_by_length`
    answer: Any = batches.prefetch(2).with_options(options)
    answer.order = order
    return answer


def _checked_buckets(rows: Any, buckets: Any) -> dict[str, tuple[int, ...]]:
    spec = getattr(rows, "element_spec", None)
    if not isinstance(spec, Mapping) or not spec:
        raise ValueError(
            f"The elements of rows are {spec}, but expected a tf.data.Dataset of dicts, name -> int (time,)."
        )
    for name, of in spec.items():
        if len(of.shape) != 1 or not of.dtype.is_integer:
            raise ValueError(f"Rows of {name} are {of}, but expected the ids of a row, int (time,). Tokenize texts.")
    by_name = buckets if isinstance(buckets, Mapping) else dict.fromkeys(spec, buckets)
    if sorted(by_name) != sorted(spec):
        raise ValueError(f"There are buckets for {sorted(by_name)}, but the rows have {sorted(spec)}.")
    return {name: check_sizes(by_name[name], f"buckets of {name}") for name in spec}


def _in_order(rows: tf.data.Dataset, shuffle_rows: int, order: BatchOrder) -> tf.data.Dataset:
    """Return the rows in the order of the present epoch, which is counted when they end."""

    def seed_of_epoch() -> Any:
        random = order.random()
        return 0 if random is None else random.integers(1, 2**31)

    def part(place: tf.Tensor) -> tf.data.Dataset:
        seed = tf.numpy_function(seed_of_epoch, [], tf.int64)
        seed.set_shape([])
        taken = rows.shuffle(shuffle_rows, seed=seed, reshuffle_each_iteration=False) if shuffle_rows else rows
        return taken.take(tf.where(place == 0, tf.constant(-1, tf.int64), 0))

    def count() -> Any:
        order.epoch += 1
        return False

    def counted(place: tf.Tensor) -> tf.Tensor:
        return tf.cond(place == 0, lambda: True, lambda: tf.numpy_function(count, [], tf.bool))

    return tf.data.Dataset.range(2).filter(counted).flat_map(part)


def _dense(ids: Any) -> tf.Tensor:
    return ids.values if hasattr(ids, "values") and hasattr(ids, "dense_shape") else tf.convert_to_tensor(ids)


def _completed(batch: dict[str, tf.Tensor], size: int, pad_id: int, names: list[str]) -> dict[str, tf.Tensor]:
    """Return a batch with rows of length 0 up to `size` rows."""
    answer = {}
    for name, of in batch.items():
        missing = size - tf.shape(of)[0]
        paddings = [[0, missing]] + [[0, 0]] * (len(of.shape) - 1)
        filled = tf.pad(of, paddings, constant_values=pad_id if name in names else 0)
        answer[name] = tf.ensure_shape(filled, [size, *of.shape[1:]])
    return answer
