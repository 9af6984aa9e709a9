"""Batches of sequences of similar length."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from kseq.models.token_checks import check_tokens

Batch = dict[str, np.ndarray]


def bucket_by_length(
    sequences: Mapping[str, Sequence[Sequence[int]]],
    *,
    batch_size: int,
    buckets: Sequence[int] | Mapping[str, Sequence[int]],
    vocabulary_sizes: Mapping[str, int] | None = None,
    pad_id: int = 0,
    shuffle: bool = False,
    seed: int | None = None,
) -> tf.data.Dataset:
    """Return a dataset of batches of rows of similar length, for `fit` and `evaluate` on any backend.

    Rows are grouped by the buckets of their sequences, and each sequence is padded to its bucket. This keeps the
    padding small, and bounds the number of shapes, each of which XLA compiles once, by the number of combinations of
    buckets. The last batch of a group is completed by rows of length 0, which have no weight in a masked loss.

    Args:
        sequences: Name -> one list of token ids per row; the same number of rows under each name.
        batch_size: Rows in a batch.
        buckets: Increasing lengths to which sequences are padded, for all names or by name. Sequences longer than the
            largest bucket are refused.
        vocabulary_sizes: Name -> number of token ids; ids outside this range are refused. None: ids are not checked.
        pad_id: Id of the padding.
        shuffle: Whether rows and batches have a new order in each epoch.
        seed: Seed of the order.

    Returns:
        A `tf.data.Dataset` of known size. Its elements are dicts with int32 `(batch_size, bucket)` for each name, and
        `NAME_lengths` int32 `(batch_size,)`.

    Raises:
        ValueError: If the numbers of rows differ, there is no row, a sequence is longer than the largest bucket, a
            token id is outside its vocabulary, or the buckets do not increase.

    Example:
        >>> rows = {"source": [[4, 5], [6]], "target": [[2, 7, 3], [2, 3]]}
        >>> batches = bucket_by_length(rows, batch_size=2, buckets=[4])
        >>> next(iter(batches))["source_lengths"].numpy()
        array([2, 1], dtype=int32)
    """
    counts = {name: len(rows) for name, rows in sequences.items()}
    if len(set(counts.values())) != 1 or not next(iter(counts.values())):
        raise ValueError(f"Each name needs the same number of sequences, at least 1, but there are {counts}.")
    rows = {name: [np.asarray(row, "int32") for row in lists] for name, lists in sequences.items()}
    by_name = _buckets_by_name(buckets, list(sequences))
    for name, size in (vocabulary_sizes or {}).items():
        for index, row in enumerate(rows[name]):
            check_tokens(row, size, f"{name}[{index}]")
    places = {name: _bucket_of(rows[name], by_name[name], name) for name in rows}
    _, group = np.unique(np.stack(list(places.values()), axis=1), axis=0, return_inverse=True)
    groups = [np.flatnonzero(group.reshape(-1) == index) for index in range(group.max() + 1)]
    random = np.random.default_rng(seed)

    def batches() -> Iterator[Batch]:
        for chosen in _order(groups, batch_size, random if shuffle else None):
            batch = {}
            for name in rows:
                bucket = by_name[name][int(places[name][chosen[0]])]
                ids, lengths = _pad([rows[name][row] for row in chosen], batch_size, bucket, pad_id)
                batch |= {name: ids, f"{name}_lengths": lengths}
            yield batch

    specs = {name: tf.TensorSpec([batch_size, None], tf.int32) for name in rows}
    specs |= {f"{name}_lengths": tf.TensorSpec([batch_size], tf.int32) for name in rows}
    dataset = tf.data.Dataset.from_generator(batches, output_signature=specs)
    count = sum(-(-len(group) // batch_size) for group in groups)
    options = tf.data.Options()
    # With autotuning, an iterator sometimes waits for its tuner at the end, up to a minute; there is nothing to tune.
    options.autotune.enabled = False
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2).with_options(options)


def check_sizes(sizes: Sequence[int], name: str) -> tuple[int, ...]:
    """Return `sizes` as a tuple, or raise ValueError if they are not increasing positive integers."""
    sizes = tuple(int(size) for size in sizes)
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
