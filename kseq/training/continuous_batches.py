"""Batches of long texts whose rows go on from batch to batch."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kseq.models.inputs.token_checks import integer_array
from kseq.numbers import LARGEST_ID, whole
from kseq.training.batch_order import BatchOrder


def continuous_batches(
    ids: Any, batch_size: int, steps: int, *, document_ends: Sequence[int] | None = None
) -> tf.data.Dataset:
    """Return a dataset of chunks of a long text, for truncated backpropagation through time, on any backend.

    The text is cut into `batch_size` rows of nearly equal length. Batch number i has the i-th chunk of `steps` tokens
    of each row, so a row of a batch goes on where the same row of the last batch ended: a recurrent
    `kseq.models.LanguageModel` carries its state over. All batches have one shape; nothing is left out or shuffled.

    Args:
        ids: int `(time,)`, the tokens of the text, or of documents one after the other, with their begin and end tokens
            if the model has any.
        batch_size: Rows in a batch.
        steps: Tokens in a row of a batch.
        document_ends: For each document the index after its last token, increasing, the last one `len(ids)`: with
            documents of these lengths `np.cumsum(lengths)`. None: the text is one document. The first token of a
            document is not predicted from the document before it.

    Returns:
        A `tf.data.Dataset` of known size. Its elements are dicts of `source` int32 `(batch_size, steps)`; `target`, of
        the same shape, the token that follows each; `lengths` int32 `(batch_size,)`, `steps` in all batches but the
        last ones; and `reset` bool, where the state is to be forgotten: `(batch_size,)`, True in the first batch, or
        with `document_ends` `(batch_size, steps)`, True at the first token of each document and row.

    Raises:
        ValueError: If `ids` are not integers `(time,)`, there are fewer pairs of tokens than rows, a number is out of
            range, or the ends do not increase up to `len(ids)`.

    Example:
        >>> batches = continuous_batches(np.arange(9), batch_size=2, steps=3)
        >>> [batch["source"].numpy().tolist() for batch in batches]
        [[[0, 1, 2], [4, 5, 6]], [[3, 0, 0], [7, 0, 0]]]

    Reference: S. Merity, N. Keskar, R. Socher, "Regularizing and optimizing LSTM language models", 2018.
    """
    batch_size, steps = whole("batch_size", batch_size), whole("steps", steps)
    for name, value in (("batch_size", batch_size), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    ids = integer_array(ids, "ids")
    if ids.ndim != 1:
        raise ValueError(
            f"ids have shape {ids.shape}, but a long text is (time,). Of texts apart, make np.concatenate."
        )
    if len(ids) and (ids.min() < 0 or ids.max() > LARGEST_ID):
        raise ValueError(f"ids are from {ids.min()} to {ids.max()}, but they must be in [0, {LARGEST_ID}].")
    source, target, first = _pairs(ids, document_ends)
    if len(source) < batch_size:
        raise ValueError(
            f"There are {len(source)} tokens that another one follows, but batch_size={batch_size} rows need at least "
            "as many. Give a longer text, or fewer rows."
        )
    bounds = np.linspace(0, len(source), batch_size + 1).astype(int)  # of the rows
    count = -(-int(np.diff(bounds).max()) // steps)
    first[bounds[:-1]] = True

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for index in range(count):
            begins = np.minimum(bounds[:-1] + index * steps, bounds[1:])
            lengths = np.minimum(bounds[1:] - begins, steps)
            real = np.arange(steps) < lengths[:, None]
            places = np.where(real, begins[:, None] + np.arange(steps), 0)
            by_row = np.full(batch_size, index == 0)
            yield {
                "source": np.where(real, source[places], 0).astype("int32"),
                "target": np.where(real, target[places], 0).astype("int32"),
                "lengths": lengths.astype("int32"),
                "reset": by_row if document_ends is None else real & first[places],
            }

    shape = [batch_size, steps]
    specs = {name: tf.TensorSpec(shape, tf.int32) for name in ("source", "target")}
    specs["lengths"] = tf.TensorSpec([batch_size], tf.int32)
    specs["reset"] = tf.TensorSpec(shape[:1] if document_ends is None else shape, tf.bool)
    dataset = tf.data.Dataset.from_generator(batches, output_signature=specs)
    options = tf.data.Options()
    options.autotune.enabled = False  # as in `bucket_by_length`: its tuner may hold up the end of an epoch
    answer: Any = dataset.apply(tf.data.experimental.assert_cardinality(count)).prefetch(2).with_options(options)
    ends = [] if document_ends is None else document_ends
    answer.order = BatchOrder(0, shuffle=False, rows=[ids, batch_size, steps, ends])
    return answer


def _pairs(ids: np.ndarray, document_ends: Sequence[int] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the tokens that another one follows, these, and whether each of the former begins a document."""
    follows = np.ones(max(len(ids) - 1, 0), bool)
    first = np.zeros(len(ids), bool)
    if document_ends is not None:
        ends = _checked_ends(document_ends, len(ids))
        follows[ends[:-1] - 1] = False
        first[np.concatenate([[0], ends[:-1]])] = True
    return ids[:-1][follows], ids[1:][follows], first[:-1][follows]


def _checked_ends(ends: Sequence[int], length: int) -> np.ndarray:
    """Return the ends of documents as an array."""
    array = integer_array(ends, "document_ends")
    if array.ndim != 1 or not len(array) or array[0] < 1 or (np.diff(array) < 1).any() or array[-1] != length:
        shown = array.tolist() if array.size < 8 else f"{array[:3].tolist()} ... {array[-3:].tolist()}"
        raise ValueError(
            f"document_ends={shown} must be the indices after the documents' last tokens: increasing, and the last one "
            f"{length}, the number of ids. Of the documents' lengths, take np.cumsum(lengths)."
        )
    return array
