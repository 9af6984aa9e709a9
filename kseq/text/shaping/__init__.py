"""Shapes of rows of token ids: truncation, packing of several texts, and ragged, padded and one-hot rows."""

from kseq.text.shaping.rows import PaddedRows, dense_to_ragged, one_hot_rows, ragged_to_dense
from kseq.text.shaping.segment_packer import PackedSegments, SegmentPacker
from kseq.text.shaping.truncation import truncate_segments

__all__ = [
    "PackedSegments",
    "PaddedRows",
    "SegmentPacker",
    "dense_to_ragged",
    "one_hot_rows",
    "ragged_to_dense",
    "truncate_segments",
]


def __dir__() -> list[str]:
    return __all__
