"""Batches of long texts whose rows go on from batch to batch."""

import itertools

import numpy as np
import pytest

import kseq

IDS = np.arange(100, 123)


def arrays(*args, **options):
    dataset = kseq.training.continuous_batches(*args, **options)
    batches = [{name: value.numpy() for name, value in batch.items()} for batch in dataset]
    assert len(dataset) == len(batches)
    return batches


def rows_of(batches, name):
    """Return the real values of each row of all batches, one after the other."""
    parts = [[row[:length] for row, length in zip(b[name], b["lengths"], strict=True)] for b in batches]
    return [np.concatenate(of_row).tolist() for of_row in zip(*parts, strict=True)]


def joined(rows):
    return list(itertools.chain(*rows))


def test_ids_that_are_no_int32_are_refused():
    with pytest.raises(ValueError, match=f"from 5 to {2**32 + 5}, but they must be in"):
        kseq.training.continuous_batches([5, 6, 2**32 + 5], 1, 1)


def test_rows_go_on_from_batch_to_batch_and_nothing_is_left_out():
    batches = arrays(IDS, 3, 5)
    assert [b["source"].shape for b in batches] == [(3, 5), (3, 5)]
    sources, targets = (rows_of(batches, name) for name in ("source", "target"))
    assert joined(sources) == IDS[:-1].tolist()
    assert joined(targets) == IDS[1:].tolist()
    assert max(map(len, sources)) - min(map(len, sources)) <= 1
    assert [b["reset"].tolist() for b in batches] == [[True] * 3, [False] * 3]
    assert arrays(IDS, 3, 5)[1]["source"].tolist() == batches[1]["source"].tolist()


def test_documents_end_where_they_are_said_to():
    batches = arrays(IDS, 2, 4, document_ends=[1, 4, 12, 23])  # the first one has a single token
    sources, targets, resets = (rows_of(batches, name) for name in ("source", "target", "reset"))
    pairs = list(zip(joined(sources), joined(targets), strict=True))
    assert pairs == [(a, a + 1) for a in IDS[:-1] if a not in (100, 103, 111)]
    firsts = [a for a, reset in zip(joined(sources), joined(resets), strict=True) if reset]
    assert set(firsts) == {101, 104, 112, sources[1][0]}
    assert not any(b["reset"][row, length:].any() for b in batches for row, length in enumerate(b["lengths"]))


def test_an_end_of_the_last_document_alone_changes_nothing_but_the_shape_of_reset():
    one, other = arrays(IDS, 2, 4), arrays(IDS, 2, 4, document_ends=[len(IDS)])
    for a, b in zip(one, other, strict=True):
        assert all((a[name] == b[name]).all() for name in ("source", "target", "lengths"))
        assert (a["reset"] == b["reset"][:, 0]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (([[1, 2]], 1, 1), r"ids have shape \(1, 2\)"),
        (([1.5, 2.0], 1, 1), r"dtype float64 \(such as 1.5"),
        (([1, 2, 3], 3, 1), r"There are 2 tokens that another one follows, but batch_size=3"),
        (([1, 2], 0, 1), r"batch_size=0 must be at least 1"),
        (([1, 2], 1, 0), r"steps=0 must be at least 1"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        kseq.training.continuous_batches(*call)


@pytest.mark.parametrize("ends", [[], [2], [3, 2, 5], [0, 5], [5, 6]])
def test_ends_that_are_none_are_refused(ends):
    with pytest.raises(ValueError, match=r"document_ends=.* must be the indices after .* the last one 5"):
        kseq.training.continuous_batches([1, 2, 3, 4, 5], 1, 1, document_ends=ends)
