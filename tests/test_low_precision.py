"""The warning of bfloat16 on processors that have no instructions for it."""

import pytest

import kseq
from kseq import low_precision


@pytest.mark.parametrize(("flags", "warns"), [("sse avx512f", True), ("sse avx512_bf16", False), (None, False)])
def test_bfloat16_is_warned_of_where_it_is_slow(flags, warns, tmp_path, monkeypatch, recwarn):
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    monkeypatch.setattr(low_precision, "CPU_INFO", tmp_path / "cpuinfo")
    low_precision._warn.cache_clear()
    for dtype in ("float32", "mixed_bfloat16", "mixed_bfloat16"):
        kseq.layers.GRU(2, dtype=dtype).build((None, None, 3))
    assert [str(each.message)[:41] for each in recwarn] == ["A recurrent layer computes in bfloat16, b"] * warns
