"""Batches of sequences of similar length."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kseq.ids import NO_ID, check_ids
from kseq.models.inputs.model_inputs import check_row_sizes
from kseq.models.inputs.token_checks import integer_array, refuse_ends
from kseq.numbers import whole
from kseq.training.batch_order import BatchOrder
from kseq.training.batch_plan import BatchPlan, checked_shard
from kseq.training.buckets import bucket_of, buckets_by_name, check_sizes
from kseq.training.row_values import WordRows, completed, is_per_row, values_per_row

Batch = dict[str, np.ndarray]


def bucket_by_length(
    sequences: Mapping[str, Any],
    *,
    batch_size: int | None = None,
    buckets: int | Sequence[int] | Mapping[str, int | Sequence[int]],
    tokens_per_batch: int | None = None,
    vocabulary_sizes: Mapping[str, int] | None = None,
    pad_id: int = 0,
    bos_id: int | None = 2,
    eos_id: int | None = 3,
    per_row: Sequence[str] | None = None,
    shuffle: bool = False,
    seed: int | None = None,
    ascending_epochs: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Return a dataset of batches of rows of similar length, for `fit` and `evaluate` on any backend.

    Rows are grouped by the buckets of their sequences, and each sequence is padded to its bucket. This keeps the
    padding small, and bounds the number of shapes, each of which XLA compiles once, by the number of combinations of
    buckets. The last batch of a group is completed by rows of length 0, which have no weight in a masked loss.

    Args:
        sequences: Name -> one list of token ids per row, or a RaggedTensor; the same number of rows under each name.
            The rows of "characters" are lists of words, each a list of ids. `text_pairs`, `tagged_words` and
            `labelled_texts` make them from texts, and from columns of a pandas data frame.
        batch_size: Rows in a batch.
        buckets: Increasing lengths to which sequences are padded, for all names or by name. Sequences longer than the
            largest bucket are refused. Or a number of buckets: those with the least padding, see `choose_buckets`.
        tokens_per_batch: In place of `batch_size`: a batch has as many rows as there are times the longest of its
            buckets in this number, at least one.
        vocabulary_sizes: Name -> number of token ids; ids outside this range are refused. None: ids are not checked.
        pad_id: Id of the padding.
        bos_id: Id with which each row of the sequences named "target" begins, as `kseq.models.Seq2Seq` needs them; None
            if they may begin with any token.
        eos_id: Id with which those rows end; None if they may end with any token.
        per_row: Names of entries that have one number, or one array of numbers, for each row; they need no buckets.
            None: "labels", unless they are lists of ints.
        shuffle: Whether rows and batches have a new order in each epoch.
        seed: Seed of the order, at least 0. The order of an epoch depends on the seed and the epoch's number alone, see
            `kseq.training.ExactResume`.
        ascending_epochs: In this number of epochs at the beginning, shuffled batches of short rows come before those
            of long ones: an order from easy to hard (SortaGrad, of Amodei et al. 2016).
        shard: Index and number of the workers that train together, each with a dataset of its own, of the same rows and
            seed. Each has the same number of batches, `batch_size` or `tokens_per_batch` each, with the same shapes at
            the same step; every row is in one of them. Where rows do not suffice, batches are completed by rows of
            length 0. Under a `tf.distribute.MultiWorkerMirroredStrategy`, `fit` refuses those of other processes.

    Returns:
        A `tf.data.Dataset` of known size. Its elements are dicts with int32 `(batch_size, bucket)` for each name, and
        `NAME_lengths` int32 `(batch_size,)`; `characters` are `(batch_size, bucket, longest word)`, their lengths
        `(batch_size, bucket)`; what is there once per row is int32 or float32 `(batch_size, ...)`. Attributes:
        `padding`, for each name the share of places that hold no token; `buckets`, those of each name; `shapes`, which
        tells `fit` which shapes XLA compiles; `order`, see `ExactResume`; `worker`, the `shard`.

    Raises:
        ValueError: If the numbers of rows differ, there is no row, a row is not of integers or longer than the largest
            bucket, a token id is outside its vocabulary, a row of "target" lacks its begin or end token, a row of
            "tags" or "characters" does not have one item for each token of "source", the buckets do not increase,
            buckets, vocabulary sizes or `per_row` name something that is not among the sequences, there are both or
            none of `batch_size` and `tokens_per_batch`, or workers would shuffle differently.

    Example:
        >>> rows = {"source": [[4, 5], [6]], "target": [[2, 7, 3], [2, 3]]}
        >>> batches = bucket_by_length(rows, batch_size=2, buckets=[4])
        >>> next(iter(batches))["source_lengths"].numpy()
        array([2, 1], dtype=int32)
        >>> batches.padding
        {'source': 0.625, 'target': 0.375}

    Reference: D. Amodei et al., "Deep Speech 2: end-to-end speech recognition in English and Mandarin", 2016.
    """
    values = {name: values_per_row(sequences[name], name) for name in _names_per_row(sequences, per_row)}
    sequences = {name: lists for name, lists in sequences.items() if name not in values}
    words = {name: WordRows(sequences[name], name) for name in sequences if name == "characters"}
    rows: dict[str, Any] = {
        name: words[name].rows if name in words else _rows(lists, name) for name, lists in sequences.items()
    }
    counts = {name: len(lists) for name, lists in {**rows, **values}.items()}
    if len(set(counts.values())) != 1 or not next(iter(counts.values())):
        raise ValueError(f"Each name needs the same number of sequences, at least 1, but there are {counts}.")
    size = _size_of_batches(batch_size, tokens_per_batch)
    pad_id, ascending_epochs = whole("pad_id", pad_id), whole("ascending_epochs", ascending_epochs)
    shard, seed = checked_shard(shard), None if seed is None else whole("seed", seed)
    _check_order(shuffle, seed, ascending_epochs, shard)
    lengths = {name: np.array([len(row) for row in of]) for name, of in rows.items()}
    by_name = buckets_by_name(buckets, lengths)
    _check_rows(rows, words, vocabulary_sizes or {}, bos_id, eos_id)
    places = {name: bucket_of(lengths[name], by_name[name], name) for name in rows}
    plan = BatchPlan(lengths, places, by_name, **size, shard=shard)
    shapes = BatchShapes(plan.shapes())
    order = BatchOrder(
        seed,
        shuffle=bool(shuffle),
        rows=[
            pad_id,
            repr((by_name, size, (0, shard[1]), ascending_epochs, bool(shuffle))),  # workers share one state
            *_contents(rows, words),
            *values.values(),
        ],
    )

    def batches() -> Iterator[Batch]:
        epoch = order.epoch
        steps = plan.batches(order.random(), ascending=epoch < ascending_epochs)
        shapes.order = [group for group, _ in steps]
        for group, chosen in steps:
            batch = {}
            for name in rows:
                pad = words[name].pad if name in words else _pad
                widths = plan.sizes[group], plan.widths[group][name]
                ids, of_name = pad([rows[name][row] for row in chosen], *widths, pad_id)
                batch |= {name: ids, f"{name}_lengths": of_name}
            yield {**batch, **{name: completed(of[chosen], plan.sizes[group]) for name, of in values.items()}}
        order.epoch = epoch + 1

    signature = _specs(rows, words, values, size["batch_size"])
    answer = _dataset_of(batches, signature, plan.count, sharded=shard[1] > 1)
    answer.shapes, answer.order, answer.padding, answer.buckets = shapes, order, plan.padding, by_name
    answer.worker = shard
    return answer


def _dataset_of(batches: Callable[[], Iterator[Batch]], signature: Any, count: int, *, sharded: bool) -> Any:
    """Return the dataset, of known size, of what `batches` yields."""
    options = tf.data.Options()
    # With autotuning, an iterator sometimes waits for its tuner at the end, up to a minute; there is nothing to tune.
    options.autotune.enabled = False
    if sharded:  # each worker has its own batches already
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2).with_options(options)


def _size_of_batches(batch_size: Any, tokens_per_batch: Any) -> dict[str, int | None]:
    """Return the checked arguments, of which one is None."""
    if (batch_size is None) == (tokens_per_batch is None):
        raise ValueError(
            f"batch_size={batch_size} and tokens_per_batch={tokens_per_batch}: give one of them, rows or tokens."
        )
    name, size = ("batch_size", batch_size) if tokens_per_batch is None else ("tokens_per_batch", tokens_per_batch)
    (size,) = check_sizes([size], name)
    return {"batch_size": None, "tokens_per_batch": None, name: size}


def _check_order(shuffle: bool, seed: int | None, ascending_epochs: int, shard: tuple[int, int]) -> None:
    if seed is not None and seed < 0:
        raise ValueError(f"seed={seed}, but the seed of an order is at least 0.")
    if ascending_epochs < 0 or (ascending_epochs and not shuffle):
        raise ValueError(
            f"ascending_epochs={ascending_epochs} is a number of epochs, of the order of shuffled batches: give "
            "shuffle=True."
        )
    if shuffle and seed is None and shard[1] > 1:
        raise ValueError("Workers that shuffle by different seeds would not share the rows: give all the same seed.")


def _check_rows(
    rows: Mapping[str, Any],
    words: Mapping[str, WordRows],
    sizes: Mapping[str, int],
    bos_id: int | None,
    eos_id: int | None,
) -> None:
    """Raise ValueError if an id is outside its vocabulary, or rows do not fit together."""
    if unknown := sorted({*sizes} - {*rows}):
        raise ValueError(f"There are vocabulary sizes for {unknown}, but the sequences are {sorted(rows)}.")
    for name in rows:
        _check_ids(words[name].flat if name in words else rows[name], sizes.get(name, NO_ID), name)
    for name in {"tags", "characters"} & {*rows} if "source" in rows else ():
        check_row_sizes([len(row) for row in rows[name]], [len(row) for row in rows["source"]], name, "source")
    _check_targets(rows.get("target", []), bos_id, eos_id)


def _specs(
    rows: Mapping[str, Any], words: Mapping[str, WordRows], values: Mapping[str, np.ndarray], batch_size: int | None
) -> dict[str, tf.TensorSpec]:
    """Return what the dataset's elements are."""
    specs = {name: tf.TensorSpec([batch_size, None], tf.int32) for name in rows}
    specs |= {f"{name}_lengths": tf.TensorSpec([batch_size], tf.int32) for name in rows}
    for name, of in words.items():
        specs[name] = tf.TensorSpec([batch_size, None, of.width], tf.int32)
        specs[f"{name}_lengths"] = tf.TensorSpec([batch_size, None], tf.int32)
    return specs | {name: tf.TensorSpec([batch_size, *of.shape[1:]], of.dtype) for name, of in values.items()}


def _contents(rows: Mapping[str, Sequence], words: Mapping[str, WordRows]) -> Iterator[Any]:
    """Yield the names, ids and lengths of all rows, for their fingerprint."""
    for name, of_name in rows.items():
        flat = words[name].flat if name in words else of_name
        yield name
        yield np.concatenate([np.zeros(0, "int32"), *flat])
        yield np.array([len(row) for row in of_name])
        if name in words:
            yield np.array([len(word) for row in of_name for word in row])


class BatchShapes:
    """The shapes of a dataset's batches, in the order of the current epoch.

    Attributes:
        order: The number of each batch's shape; empty before the epoch's first batch.

    Args:
        shapes: The different shapes: name and shape of each array.
    """

    def __init__(self, shapes: list[tuple[tuple[str, tuple[int, ...]], ...]]):
        self._shapes, self.order = shapes, []
        self.count = len(shapes)

    def start_epoch(self) -> None:
        """Forget the order of the last epoch."""
        self.order = []

    def shape_of(self, batch: int) -> tuple[tuple[str, tuple[int, ...]], ...] | None:
        """Return the shape of a batch of this epoch, or None if it is not known yet."""
        order = self.order
        return self._shapes[order[batch]] if batch < len(order) else None


def _names_per_row(sequences: Mapping[str, Any], names: Sequence[str] | None) -> list[str]:
    """Return the names of the entries that are there once for each row."""
    if names is None:
        others = len(sequences) > 1
        return [name for name in ("labels",) if others and name in sequences and is_per_row(sequences[name])]
    if isinstance(names, str) or not {*names} < {*sequences}:
        raise ValueError(
            f"per_row={names!r} must be a list of names among the sequences {sorted(sequences)}, of which at least one "
            "other has tokens."
        )
    return list(names)


def _rows(lists: Any, name: str) -> list[np.ndarray]:
    """Return the rows of integers."""
    lists = lists.to_list() if hasattr(lists, "nested_row_splits") else list(lists)
    rows = [integer_array(row, f"{name}[{index}]") for index, row in enumerate(lists)]
    for index, row in enumerate(rows):
        if row.ndim != 1:
            raise ValueError(f"{name}[{index}] has shape {row.shape}, but a row is a list of token ids, (time,).")
    return rows


def _check_ids(rows: list[np.ndarray], size: int, name: str) -> None:
    for index, row in enumerate(rows):
        check_ids(row, size, f"{name}[{index}]")


def _check_targets(rows: list[np.ndarray], bos_id: int | None, eos_id: int | None) -> None:
    fewest = (bos_id is not None) + (eos_id is not None)
    for index, row in enumerate(rows):
        right = len(row) >= fewest and (bos_id is None or row[0] == bos_id) and (eos_id is None or row[-1] == eos_id)
        if not right:
            refuse_ends(index, row, bos_id, eos_id, "to batch other targets, bos_id=None and eos_id=None")


def _pad(rows: list[np.ndarray], batch_size: int, bucket: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    ids, lengths = np.full((batch_size, bucket), pad_id, "int32"), np.zeros(batch_size, "int32")
    for place, row in enumerate(rows):
        ids[place, : len(row)], lengths[place] = row, len(row)
    return ids, lengths
