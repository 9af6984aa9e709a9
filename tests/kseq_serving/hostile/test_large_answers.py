"""Large JSON answers, which are written in pieces, because Python's lock is held while one is written."""

import tracemalloc

import numpy as np
import pytest

from kseq_serving.rest import json_response

pytestmark = pytest.mark.server
PIECE = 7
TEXTS = np.array([b"a", b"\xff", b'"', "\u00e9".encode(), b""] * 24, object)
OUTPUTS = {
    "one long axis": {"y": np.arange(120, dtype=np.float32) / 3},
    "short rows": {"y": np.arange(120).reshape(60, 2)},
    "long rows": {"y": np.arange(120, dtype=np.float64).reshape(3, 40)},
    "long inner rows": {"y": TEXTS.reshape(2, 5, 12)},
    "base64": {"y_bytes": TEXTS.reshape(4, 30)},
    "short rows of several": {"a": np.arange(40), "b": np.arange(80).reshape(40, 2) % 2 == 0},
    "long rows of several": {"a": np.arange(3), "b": TEXTS.reshape(3, 40), "c": np.zeros((3, 0))},
    "empty lists": {"y": np.zeros((2, 30, 0))},
    "no lists": {"y": np.zeros((0, 30))},
}


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("outputs", OUTPUTS.values(), ids=OUTPUTS)
def test_the_pieces_are_small_and_together_the_whole_answer(
    monkeypatch: pytest.MonkeyPatch, outputs: dict[str, np.ndarray], rows: bool
):
    whole = json_response.write(outputs, rows=rows)
    counts, sizes = [0], []
    texts, encode = json_response._value_texts, json_response.encode
    monkeypatch.setattr(
        json_response, "_value_texts", lambda name, some, depth: counts.append(len(some)) or texts(name, some, depth)
    )
    monkeypatch.setattr(json_response, "encode", lambda text: sizes.append(len(text)) or encode(text))
    monkeypatch.setattr(json_response, "PIECE", PIECE)
    assert json_response.write(outputs, rows=rows) == whole
    assert max(counts) <= PIECE
    # Each value with the brackets and spaces around it; those of several outputs stand with names too.
    assert max(sizes) <= PIECE * 100
    assert sum(sizes) <= len(whole)


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("shape", [(50_000,), (1, 50_000), (25_000, 2)])
def test_a_large_answer_takes_little_more_memory_than_its_bytes(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], rows: bool
):
    """A text object takes some 60 bytes for each number of about 10."""
    monkeypatch.setattr(json_response, "PIECE", 1000)
    outputs = {"y": np.random.default_rng(0).normal(size=shape).astype(np.float32)}
    json_response.write(outputs, rows=rows)
    tracemalloc.start()
    try:
        body = json_response.write(outputs, rows=rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(body)
