"""Requests whose padding, or whose filling up to an allowed size, must not cost far more than they hold."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kseq_serving.batching import batch_arrays
from kseq_serving.errors import ServingError
from tests.kseq_serving.test_batching import EchoSession, batched


def answers_of(echo: EchoSession, *arrays: np.ndarray, **options) -> list[np.ndarray]:
    """Ask with each array at the same time, with padding, and return the outputs."""
    session = batched(echo, max_rows=sum(map(len, arrays)), pad_inputs=True, **options)
    with ThreadPoolExecutor(len(arrays)) as pool:
        asked = [pool.submit(session.run, {"x": array}, ["y"], timeout_s=10.0) for array in arrays]
        return [call.result(10)["y"] for call in asked]


def widths(echo: EchoSession) -> list[list[int]]:
    """Return the rows and the width of each batch."""
    return sorted([len(batch["x"]), len(batch["x"][0])] for batch in echo.batches)


def shared(*shapes: tuple[int, ...]) -> bool:
    """Return whether rows of these shapes may share a batch that is padded."""
    kinds = {batch_arrays.kind({"x": np.broadcast_to(0.0, (1, *shape))}, pad_inputs=True) for shape in shapes}
    return len(kinds) == 1


def test_a_wide_row_is_not_put_into_a_batch_with_narrow_ones():
    echo = EchoSession()
    answers = answers_of(echo, *(np.ones((1, width)) for width in (2, 4_000_000, 3)), timeout_s=0.3)
    assert [answer.shape[1] <= 3 for answer in answers] == [True, False, True]
    assert widths(echo) == [[1, 4_000_000], [2, 3]]


@pytest.mark.parametrize(
    "shapes",
    [
        ((1,), (2,), (10,), (64,)),
        ((65,), (100,), (128,)),
        ((5, 80), (64, 80)),
        ((600, 80), (1000, 80)),
        ((1, 1), (64, 64)),
        ((1, 1, 1), (16, 16, 16)),
    ],
    ids=str,
)
def test_rows_of_ordinary_sizes_share_a_batch(shapes: tuple):
    assert shared(*shapes)


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5])
def test_no_row_grows_by_more_than_a_factor_or_above_a_small_size(rank: int):
    chance = np.random.default_rng(rank)
    largest: dict = {}
    shapes = [tuple(2 ** int(power) for power in chance.uniform(0, 8, rank)) for _ in range(3000)]
    for shape in shapes:
        kind = batch_arrays.kind({"x": np.broadcast_to(0.0, (1, *shape))}, pad_inputs=True)
        largest[kind] = np.maximum(largest.get(kind, 0), shape)
    for shape in shapes:
        kind = batch_arrays.kind({"x": np.broadcast_to(0.0, (1, *shape))}, pad_inputs=True)
        padded = int(np.prod(largest[kind]))
        assert padded <= batch_arrays.SMALL_ROW or padded < 2**rank * np.prod(shape)


def test_a_batch_is_not_padded_beyond_a_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batch_arrays, "MAX_PADDING_BYTES", 400)
    echo = EchoSession()
    answers = answers_of(echo, *(np.ones((1, width)) for width in (2, 64, 2)), timeout_s=30.0)
    assert [answer.shape for answer in answers] == [(1, 2), (1, 64), (1, 2)]
    assert [1, 64] in widths(echo)


def test_a_request_of_many_rows_does_not_grow_far_beyond_its_size():
    echo = EchoSession()
    few, many = np.ones((1, 64, 64)), np.ones((200, 1, 1))
    assert [answer.size for answer in answers_of(echo, few, many, timeout_s=30.0)] == [few.size, many.size]
    # These 300 rows grow by 7 MB, but only to four times their size.
    few, many = np.ones((1, 64, 64)), np.ones((300, 32, 32))
    assert [answer.size for answer in answers_of(echo, few, many, timeout_s=30.0)] == [few.size, 300 * few.size]


def text(length: int, *shape: int) -> np.ndarray:
    return np.full(shape, b"x" * length, object)


def test_padding_of_strings_counts_their_lengths(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batch_arrays, "MAX_PADDING_BYTES", 60 * 108 - 1)
    with pytest.raises(ServingError, match=r"Padding of the tensor with name 'x' from \(4,\) to \(64,\)"):
        batch_arrays.merge([{"x": text(100, 1, 4)}, {"x": text(0, 1, 64)}], 0, pad_inputs=True)
    monkeypatch.setattr(batch_arrays, "MAX_PADDING_BYTES", 60 * 108)
    merged = batch_arrays.merge([{"x": text(100, 1, 4)}, {"x": text(0, 1, 64)}], 0, pad_inputs=True)
    assert sum(map(len, merged["x"].flat)) == 64 * 100


def test_a_long_string_is_not_copied_into_a_whole_row():
    echo = EchoSession()
    answers = answers_of(echo, text(200_000, 1, 1), text(0, 1, 64), text(1, 1, 1), timeout_s=30.0)
    assert sum(map(len, answers[0].flat)) == 200_000
    assert answers[1].shape == (1, 64)


@pytest.mark.parametrize(
    ("inputs", "row_bytes"),
    [
        ({"x": np.ones((2, 10), np.float32)}, 40),
        ({"x": np.ones((2, 10), np.float32), "z": np.ones((2, 5), np.int64)}, 80),
        ({"x": text(100, 2, 3)}, 324),
    ],
    ids=["numbers", "two inputs", "strings"],
)
@pytest.mark.parametrize("pad_inputs", [False, True])
def test_a_batch_is_filled_up_within_a_limit(
    inputs: dict, row_bytes: int, pad_inputs: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batch_arrays, "MAX_PADDING_BYTES", 6 * row_bytes)
    for allowed, rows in ((8, 8), (9, 2)):
        echo = EchoSession()
        session = batched(echo, max_rows=allowed, allowed_sizes=(1, allowed), pad_inputs=pad_inputs)
        assert session.run(inputs, ["y"])["y"].shape == inputs["x"].shape
        assert [len(batch["x"]) for batch in echo.batches] == [rows]


def test_padding_and_filling_up_count_together(monkeypatch: pytest.MonkeyPatch):
    requests = [{"x": np.ones((1, 8))}, {"x": np.ones((1, 4))}]  # 32 bytes of padding, and rows of 64 bytes
    monkeypatch.setattr(batch_arrays, "MAX_PADDING_BYTES", 4 * 64)
    assert [len(batch_arrays.merge(requests, rows, pad_inputs=True)["x"]) for rows in (3, 4)] == [5, 2]
