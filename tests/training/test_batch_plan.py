"""Buckets chosen from the data, batches by tokens, shards of workers, and orders from short to long."""

import itertools

import keras
import numpy as np
import pandas as pd
import pytest

import kseq

LENGTHS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 20]


def padded(lengths, buckets):
    return sum(min(bucket for bucket in buckets if bucket >= length) for length in lengths)


@pytest.mark.parametrize("count", range(1, 13))
def test_chosen_buckets_have_the_least_padding_of_all(count):
    chosen = kseq.training.choose_buckets(LENGTHS, count)
    sizes = sorted(set(LENGTHS))
    every = [each for size in range(1, count + 1) for each in itertools.combinations(sizes, size) if each[-1] == 20]
    assert len(chosen) <= count
    assert padded(LENGTHS, chosen) == min(padded(LENGTHS, each) for each in every)
    assert list(chosen) == sorted(set(chosen))


def test_choice_at_the_edges():
    assert kseq.training.choose_buckets(np.array([0, 0]), 3) == (1,)  # a bucket holds at least one token
    assert kseq.training.choose_buckets([7], 2) == (7,)
    for lengths, message in [([], "one or more"), ([1.5], "whole numbers"), ([-1], "at least 0"), ([[1]], "a list")]:
        with pytest.raises(ValueError, match=message):
            kseq.training.choose_buckets(lengths, 2)
    with pytest.raises(ValueError, match="count=0"):
        kseq.training.choose_buckets([1], 0)


SOURCE = [[row + 1] * length for row, length in enumerate(LENGTHS)]


def make(**options):
    rows = {"source": SOURCE, "target": [[row + 1] for row in range(len(SOURCE))]}
    return kseq.training.bucket_by_length(rows, **{"buckets": 3, "bos_id": None, "eos_id": None, **options})


def rows_of(batch):
    return [int(row) for row, length in zip(batch["target"][:, 0], batch["target_lengths"], strict=True) if length]


def test_batches_by_tokens_and_the_share_of_padding():
    batches = make(tokens_per_batch=40)
    assert batches.buckets == {"source": kseq.training.choose_buckets(LENGTHS, 3), "target": (1,)}
    places, tokens, seen = 0, 0, []
    for batch in batches.as_numpy_iterator():
        rows, width = batch["source"].shape
        assert rows == 40 // width
        places, tokens = places + rows * width, tokens + batch["source_lengths"].sum()
        seen += rows_of(batch)
    assert sorted(seen) == list(range(1, len(SOURCE) + 1))
    np.testing.assert_allclose(batches.padding["source"], 1 - tokens / places)
    assert len({shape for shape in batches.shapes._shapes}) == 3
    assert next(iter(make(tokens_per_batch=3)))["source"].shape[0] == 1  # at least one row
    assert make(batch_size=4, buckets={"source": 5, "target": [2]}).padding["target"] > 0.5


def test_the_progress_bar_knows_the_number_of_batches():
    for options in ({"tokens_per_batch": 40}, {"batch_size": 2, "shard": (1, 3)}):
        batches = make(**options)
        assert len(list(batches)) == int(batches.cardinality()) == len(batches)


@pytest.mark.parametrize("options", [{"batch_size": 2}, {"tokens_per_batch": 20}])
def test_workers_share_all_rows_in_steps_of_the_same_shapes(options):
    workers = [list(make(shard=(index, 3), shuffle=True, seed=2, **options).as_numpy_iterator()) for index in range(3)]
    assert len({len(batches) for batches in workers}) == 1
    for step in zip(*workers, strict=True):
        assert len({batch["source"].shape for batch in step}) == 1
        counts = [len(rows_of(batch)) for batch in step]
        assert max(counts) - min(counts) <= 1  # an equal share
    seen = [row for batches in workers for batch in batches for row in rows_of(batch)]
    assert sorted(seen) == list(range(1, len(SOURCE) + 1))
    assert make(shard=(0, 2), batch_size=2).options().experimental_distribute.auto_shard_policy.name == "OFF"


def test_a_batch_that_completes_a_step_changes_nothing():
    rows = {"source": [[4, 5]], "target": [[2, 5, 3]]}
    batches = kseq.training.bucket_by_length(rows, batch_size=2, buckets=[4], shard=(1, 2))
    cell = kseq.cells.GRUCell(3)
    model = kseq.models.Seq2Seq(kseq.models.Encoder(9, 3, cell), kseq.models.Decoder(9, 3, kseq.cells.GRUCell(3)))
    model.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
    model.build()
    before = model.get_weights()
    (batch,) = batches
    assert not np.any(batch["target_lengths"])
    assert model.train_on_batch(batch, return_dict=True)["loss"] == 0.0
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_the_first_epochs_go_from_short_to_long():
    batches = make(batch_size=2, buckets=5, shuffle=True, seed=1, ascending_epochs=2)
    epochs = [[batch["source"].shape[1] for batch in batches.as_numpy_iterator()] for _ in range(3)]
    assert epochs[0] == epochs[1] == sorted(epochs[0]) == sorted(epochs[2]) != epochs[2]
    plain = make(batch_size=2, buckets=5, shuffle=True, seed=1)
    plain.order.epoch = 2
    assert [batch["source"].shape[1] for batch in plain.as_numpy_iterator()] == epochs[2]


def test_wrong_options():
    for options, message in [
        ({}, "batch_size=None and tokens_per_batch=None: give one"),
        ({"batch_size": 2, "tokens_per_batch": 8}, "give one of them"),
        ({"tokens_per_batch": 0}, "must be increasing integers of at least 1"),
        ({"batch_size": 2, "ascending_epochs": 1}, "give shuffle=True"),
        ({"batch_size": 2, "shard": 3}, r"must be a pair \(index, number of workers\)"),
        ({"batch_size": 2, "shard": (2, 2)}, "the index of a worker is from 0 to 1"),
        ({"batch_size": 2, "shard": (0, 2), "shuffle": True}, "give all the same seed"),
        ({"batch_size": 2, "shuffle": True, "seed": -1}, "at least 0"),
        ({"batch_size": 2, "buckets": 0}, "count=0"),
    ]:
        with pytest.raises(ValueError, match=message):
            make(**options)


def test_columns_of_a_data_frame():
    frame = pd.DataFrame({"word": ["ab", "b"], "sound": ["ba", "a"], "kind": ["x", "y"]})
    letters, words = kseq.text.CharacterTokenizer(["a", "b"]), kseq.text.WordTokenizer(["ab", "b"])
    rows = kseq.training.text_pairs(letters, letters, frame["word"], frame["sound"])
    assert rows == kseq.training.text_pairs(letters, letters, ["ab", "b"], ["ba", "a"])
    labelled = kseq.training.labelled_texts(words, ["x", "y"], frame["word"], frame["kind"])
    assert labelled == {"source": [[4], [5]], "labels": [0, 1]}
    ids = pd.Series([[4, 5], [6]])
    batches = kseq.training.bucket_by_length({"source": ids, "labels": pd.Series([0, 1])}, batch_size=2, buckets=2)
    batch = next(batches.as_numpy_iterator())
    assert batch["source"].tolist() == [[6], [0]]
    assert batch["labels"].tolist() == [1, 0]
