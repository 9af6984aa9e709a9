"""Batches of sequences of similar length."""

import itertools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kseq.ids import NO_ID, check_ids
from kseq.models.inputs.model_inputs import check_row_sizes
from kseq.models.inputs.token_checks import integer_array, refuse_ends
from kseq.numbers import whole
from kseq.training.row_values import WordRows, completed, is_per_row, values_per_row

Batch = dict[str, np.ndarray]


def bucket_by_length(
    sequences: Mapping[str, Any],
    *,
    batch_size: int,
    buckets: Sequence[int] | Mapping[str, Sequence[int]],
    vocabulary_sizes: Mapping[str, int] | None = None,
    pad_id: int = 0,
    bos_id: int | None = 2,
    eos_id: int | None = 3,
    per_row: Sequence[str] | None = None,
    shuffle: bool = False,
    seed: int | None = None,
) -> tf.data.Dataset:
    """Return a dataset of batches of rows of similar length, for `fit` and `evaluate` on any backend.

    Rows are grouped by the buckets of their sequences, and each sequence is padded to its bucket. This keeps the
    padding small, and bounds the number of shapes, each of which XLA compiles once, by the number of combinations of
    buckets. The last batch of a group is completed by rows of length 0, which have no weight in a masked loss.

    Args:
        sequences: Name -> one list of token ids per row, or a RaggedTensor; the same number of rows under each name.
            The rows of "characters" are lists of words, each a list of ids. `text_pairs`, `tagged_words` and
            `labelled_texts` make them from texts.
        batch_size: Rows in a batch.
        buckets: Increasing lengths to which sequences are padded, for all names or by name. Sequences longer than the
            largest bucket are refused.
        vocabulary_sizes: Name -> number of token ids; ids outside this range are refused. None: ids are not checked.
        pad_id: Id of the padding.
        bos_id: Id with which each row of the sequences named "target" begins, as `kseq.models.Seq2Seq` needs them; None
            if they may begin with any token.
        eos_id: Id with which those rows end; None if they may end with any token.
        per_row: Names of entries that have one number, or one array of numbers, for each row; they need no buckets.
            None: "labels", unless they are lists of ints.
        shuffle: Whether rows and batches have a new order in each epoch.
        seed: Seed of the order.

    Returns:
        A `tf.data.Dataset` of known size. Its elements are dicts with int32 `(batch_size, bucket)` for each name, and
        `NAME_lengths` int32 `(batch_size,)`; `characters` are `(batch_size, bucket, longest word)`, their lengths
        `(batch_size, bucket)`; what is there once per row is int32 or float32 `(batch_size, ...)`. Its attribute
        `shapes` tells `fit` which shapes XLA compiles.

    Raises:
        ValueError: If the numbers of rows differ, there is no row, a row is not of integers or longer than the largest
            bucket, a token id is outside its vocabulary, a row of "target" lacks its begin or end token, a row of
            "tags" or "characters" does not have one item for each token of "source", the buckets do not increase, or
            buckets, vocabulary sizes or `per_row` name something that is not among the sequences.

    Example:
        >>> rows = {"source": [[4, 5], [6]], "target": [[2, 7, 3], [2, 3]]}
        >>> batches = bucket_by_length(rows, batch_size=2, buckets=[4])
        >>> next(iter(batches))["source_lengths"].numpy()
        array([2, 1], dtype=int32)
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
    (batch_size,) = check_sizes([batch_size], "batch_size")
    pad_id = whole("pad_id", pad_id)
    by_name = _buckets_by_name(buckets, list(sequences))
    sizes = vocabulary_sizes or {}
    if unknown := sorted({*sizes} - {*rows}):
        raise ValueError(f"There are vocabulary sizes for {unknown}, but the sequences are {sorted(rows)}.")
    for name in rows:
        _check_ids(words[name].flat if name in words else rows[name], sizes.get(name, NO_ID), name)
    for name in {"tags", "characters"} & {*rows} if "source" in rows else ():
        check_row_sizes([len(row) for row in rows[name]], [len(row) for row in rows["source"]], name, "source")
    _check_targets(rows.get("target", []), bos_id, eos_id)
    places = {name: _bucket_of(rows[name], by_name[name], name) for name in rows}
    _, group = np.unique(np.stack(list(places.values()), axis=1), axis=0, return_inverse=True)
    groups = [np.flatnonzero(group.reshape(-1) == index) for index in range(group.max() + 1)]
    shapes = BatchShapes(
        [tuple((name, (batch_size, by_name[name][int(places[name][one[0]])])) for name in rows) for one in groups]
    )
    random = np.random.default_rng(seed)

    def batches() -> Iterator[Batch]:
        order = _order(groups, batch_size, random if shuffle else None)
        shapes.order = [int(group.reshape(-1)[chosen[0]]) for chosen in order]
        for chosen in order:
            batch = {}
            for name in rows:
                bucket = by_name[name][int(places[name][chosen[0]])]
                pad = words[name].pad if name in words else _pad
                ids, lengths = pad([rows[name][row] for row in chosen], batch_size, bucket, pad_id)
                batch |= {name: ids, f"{name}_lengths": lengths}
            yield {**batch, **{name: completed(of[chosen], batch_size) for name, of in values.items()}}

    specs = {name: tf.TensorSpec([batch_size, None], tf.int32) for name in rows}
    specs |= {f"{name}_lengths": tf.TensorSpec([batch_size], tf.int32) for name in rows}
    for name, of in words.items():
        specs[name] = tf.TensorSpec([batch_size, None, of.width], tf.int32)
        specs[f"{name}_lengths"] = tf.TensorSpec([batch_size, None], tf.int32)
    specs |= {name: tf.TensorSpec([batch_size, *of.shape[1:]], of.dtype) for name, of in values.items()}
    dataset = tf.data.Dataset.from_generator(batches, output_signature=specs)
    count = sum(-(-len(group) // batch_size) for group in groups)
    options = tf.data.Options()
    # With autotuning, an iterator sometimes waits for its tuner at the end, up to a minute; there is nothing to tune.
    options.autotune.enabled = False
    answer: Any = dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2).with_options(options)
    answer.shapes = shapes
    return answer


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


def check_sizes(sizes: Sequence[int], name: str) -> tuple[int, ...]:
    """Return `sizes` as a tuple, or raise ValueError if they are not increasing positive integers."""
    try:
        sizes = tuple(operator.index(size) for size in sizes)
    except TypeError:
        raise ValueError(f"{name}={sizes!r} must be increasing integers of at least 1, such as [8, 16, 32].") from None
    if not sizes or sizes[0] < 1 or any(low >= high for low, high in itertools.pairwise(sizes)):
        raise ValueError(f"{name}={list(sizes)} must be increasing integers of at least 1, such as [8, 16, 32].")
    return sizes


def _buckets_by_name(
    buckets: Sequence[int] | Mapping[str, Sequence[int]], names: list[str]
) -> dict[str, Sequence[int]]:
    if not isinstance(buckets, Mapping):
        buckets = dict.fromkeys(names, buckets)
    if missing := [name for name in names if name not in buckets]:
        raise ValueError(f"There are buckets for {sorted(buckets)}, but none for {missing}. Give some for each name.")
    if unknown := sorted({*buckets} - {*names}):
        raise ValueError(f"There are buckets for {unknown}, but the sequences are {sorted(names)}.")
    return {name: check_sizes(buckets[name], f"buckets of {name}") for name in names}


def _order(groups: list[np.ndarray], batch_size: int, random: np.random.Generator | None) -> list[np.ndarray]:
    """Return the row numbers of each batch."""
    groups = [group if random is None else random.permutation(group) for group in groups]
    batches = [group[start : start + batch_size] for group in groups for start in range(0, len(group), batch_size)]
    return batches if random is None else [batches[int(index)] for index in random.permutation(len(batches))]


def _pad(rows: list[np.ndarray], batch_size: int, bucket: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    ids, lengths = np.full((batch_size, bucket), pad_id, "int32"), np.zeros(batch_size, "int32")
    for place, row in enumerate(rows):
        ids[place, : len(row)], lengths[place] = row, len(row)
    return ids, lengths


def _bucket_of(rows: Sequence[np.ndarray], buckets: Sequence[int], name: str) -> np.ndarray:
    """Return the index of the smallest bucket that holds each row."""
    lengths = np.array([len(row) for row in rows])
    if lengths.max() > max(buckets):
        row = int(lengths.argmax())
        raise ValueError(
            f"{name}[{row}] has {lengths[row]} tokens, but the largest bucket holds {max(buckets)}. "
            "Add a larger bucket, or truncate the text (max_length of the tokenizer)."
        )
    return np.searchsorted(np.asarray(buckets), lengths)
