"""Batches of rows that are read from files."""

import numpy as np
import pytest
import tensorflow as tf

import kseq

SOURCE = [[row + 1] * length for row, length in enumerate((1, 9, 3, 8, 2, 7, 4, 12))]
TARGET = [[row + 1] for row in range(8)]
BUCKETS = {"source": (4, 8, 16), "target": (1,)}


def rows_of_ragged():
    ragged = {"source": tf.ragged.constant(SOURCE), "target": tf.ragged.constant(TARGET)}
    return tf.data.Dataset.from_tensor_slices(ragged)


def seen(batches):
    arrays = list(batches.as_numpy_iterator())
    real = [
        int(row[0]) for batch in arrays for row, count in zip(batch["target"], batch["target_lengths"], strict=True)
        if count
    ]  # fmt: skip
    return arrays, real


@pytest.mark.long
def test_are_those_of_lists():
    batches = kseq.training.streamed_batches(rows_of_ragged(), batch_size=2, buckets=BUCKETS, pad_id=7, steps=4)
    assert len(batches) == 4
    arrays, real = seen(batches)
    rows = {"source": SOURCE, "target": TARGET}
    lists = kseq.training.bucket_by_length(rows, batch_size=2, buckets=BUCKETS, pad_id=7, bos_id=None, eos_id=None)
    assert batches.element_spec == lists.element_spec
    assert sorted(real) == list(range(1, 9))
    expected = sorted(repr(batch) for batch in lists.as_numpy_iterator())
    assert sorted(repr({name: batch[name] for name in lists.element_spec}) for batch in arrays) == expected


@pytest.mark.long
def test_text_lines_and_records(tmp_path):
    words = kseq.text.WordTokenizer(["a", "b"])
    (tmp_path / "pairs.tsv").write_text("a b a\tb\nb\ta\n")
    lines = tf.data.TextLineDataset(str(tmp_path / "pairs.tsv")).map(lambda line: tf.strings.split(line, "\t"))
    ids = lines.map(lambda pair: {"source": words.tokenize(pair[:1])[0], "target": words.tokenize(pair[1:])[0]})
    (batch,), _ = seen(kseq.training.streamed_batches(ids, batch_size=2, buckets=(4,)))
    assert batch["source"].tolist() == [[4, 5, 4, 0], [5, 0, 0, 0]]
    assert batch["target"][:, 0].tolist() == [5, 4]

    with tf.io.TFRecordWriter(str(tmp_path / "rows.tfrecord")) as file:
        for row in SOURCE[:3]:
            feature = tf.train.Feature(int64_list=tf.train.Int64List(value=row))
            file.write(tf.train.Example(features=tf.train.Features(feature={"source": feature})).SerializeToString())
    for kind in (tf.io.RaggedFeature(tf.int64), tf.io.VarLenFeature(tf.int64)):
        parsed = tf.data.TFRecordDataset(str(tmp_path / "rows.tfrecord")).map(
            lambda record, kind=kind: tf.io.parse_single_example(record, {"source": kind})
        )
        batches = kseq.training.streamed_batches(parsed, batch_size=3, buckets=(16,))
        (batch,) = batches.as_numpy_iterator()
        assert batch["source_lengths"].tolist() == [1, 9, 3]


@pytest.mark.long
def test_order_is_a_function_of_seed_and_epoch():
    def orders(*epochs, seed=1):
        batches = kseq.training.streamed_batches(
            rows_of_ragged(), batch_size=2, buckets=BUCKETS, shuffle_rows=8, seed=seed
        )
        found = []
        for epoch in epochs:
            if epoch is not None:
                batches.order.epoch = epoch
            next(iter(batches))  # is not counted
            found.append(seen(batches)[1])
        return found

    first, second, third = orders(None, None, None)
    assert len({tuple(each) for each in (first, second, third)}) == 3
    assert sorted(first) == list(range(1, 9))
    assert orders(2, 0, 1) == [third, first, second]
    assert orders(0, seed=2) != [first]


@pytest.mark.long
def test_bad_input():
    make = kseq.training.streamed_batches
    with pytest.raises(tf.errors.InvalidArgumentError, match="A row of source is longer than the largest bucket, 8"):
        list(make(rows_of_ragged(), batch_size=2, buckets={"source": (8,), "target": (1,)}))
    for rows, options, message in [
        (rows_of_ragged(), {"buckets": {"source": (8,)}}, r"buckets for \['source'\], but the rows have"),
        (tf.data.Dataset.range(3), {}, "expected a tf.data.Dataset of dicts"),
        (tf.data.Dataset.from_tensors({"source": ["a"]}), {}, "Tokenize texts"),
        (tf.data.Dataset.from_tensors({"source": [[1]]}), {}, r"expected the ids of a row, int \(time,\)"),
        (rows_of_ragged(), {"shuffle_rows": -1}, "at least 0"),
        (rows_of_ragged(), {"batch_size": 0}, "at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            make(rows, **{"batch_size": 2, "buckets": (16,), **options})
    with pytest.raises(tf.errors.FailedPreconditionError):
        list(make(rows_of_ragged(), batch_size=2, buckets=BUCKETS, steps=3))
    assert np.ndim(next(iter(make(rows_of_ragged(), batch_size=2, buckets=(16,))))["source"]) == 2
