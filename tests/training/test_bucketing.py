"""Batches of rows of similar length."""

import pytest

import kseq

SOURCE = [[1] * length for length in (1, 9, 3, 8, 2, 7, 4, 12)]
TARGET = [[row] for row in range(8)]


def make(**options):
    buckets = {"source": (4, 8, 16), "target": (1,)}
    return kseq.training.bucket_by_length(
        {"source": SOURCE, "target": TARGET}, batch_size=2, buckets=buckets, bos_id=None, **options
    )


def rows(dataset):
    batches = [{name: value.numpy() for name, value in batch.items()} for batch in dataset]
    real = [(b["source_lengths"][i], b["target"][i, 0]) for b in batches for i in range(2) if b["target_lengths"][i]]
    return batches, real


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_row_comes_once_in_its_bucket(shuffle):
    batches, real = rows(make(shuffle=shuffle, seed=1))
    assert sorted(real) == sorted((len(s), t[0]) for s, t in zip(SOURCE, TARGET, strict=True))
    assert len(batches) == len(make()) == 4
    for batch in batches:
        assert batch["source"].shape in {(2, 4), (2, 8), (2, 16)}
        assert batch["source_lengths"].max() <= batch["source"].shape[1]
        for row, length in zip(batch["source"], batch["source_lengths"], strict=True):
            assert row.tolist() == [1] * length + [0] * (len(row) - length)


def test_shuffling_changes_from_epoch_to_epoch_and_is_seeded():
    dataset = make(shuffle=True, seed=3)
    orders = [[t for _, t in rows(dataset)[1]] for _ in range(4)]
    assert len({tuple(order) for order in orders}) > 1
    again = make(shuffle=True, seed=3)
    assert [[t for _, t in rows(again)[1]] for _ in range(4)] == orders


def test_the_end_of_an_epoch_waits_for_no_tuner():
    """TensorFlow's tuner sometimes misses the end of its iterator, and sleeps on."""
    assert make().options().autotune.enabled is False


def test_bad_input():
    with pytest.raises(ValueError, match=r"source\[1\] has 9 tokens, but the largest bucket holds 8"):
        kseq.training.bucket_by_length({"source": SOURCE[:2]}, batch_size=2, buckets=[8])
    with pytest.raises(ValueError, match=r"the same number of sequences.*\{'source': 8, 'target': 3\}"):
        kseq.training.bucket_by_length({"source": SOURCE, "target": TARGET[:3]}, batch_size=2, buckets=[16])
    with pytest.raises(ValueError, match=r"source\[1\]\[2\] = 30 is not a token id: the vocabulary has ids 0 to 29"):
        kseq.training.bucket_by_length(
            {"source": [[1], [2, 3, 30]]}, batch_size=2, buckets=[4], vocabulary_sizes={"source": 30}
        )
    with pytest.raises(ValueError, match=r"buckets of source=\[16, 8\] must be increasing"):
        kseq.training.bucket_by_length({"source": SOURCE}, batch_size=2, buckets=(16, 8))
    with pytest.raises(ValueError, match=r"buckets for \['source'\], but none for \['target'\]"):
        kseq.training.bucket_by_length({"source": SOURCE, "target": TARGET}, batch_size=2, buckets={"source": (16,)})
    with pytest.raises(ValueError, match="at least 1"):
        kseq.training.bucket_by_length({"source": []}, batch_size=2, buckets=[16])
