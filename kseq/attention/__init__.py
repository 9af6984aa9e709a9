"""Attention mechanisms, subclasses of `Attention`."""

from kseq.attention.additive import AdditiveAttention, BahdanauAttention
from kseq.attention.attention import Attention, Memory
from kseq.attention.coverage import CoverageAttention
from kseq.attention.dot_product import DotProductAttention
from kseq.attention.key_value_cache import KeyValueCache
from kseq.attention.local import LocalAttention
from kseq.attention.location_sensitive import LocationSensitiveAttention
from kseq.attention.monotonic import MonotonicAttention
from kseq.attention.multi_head import MultiHeadAttention

__all__ = [
    "AdditiveAttention",
    "Attention",
    "BahdanauAttention",
    "CoverageAttention",
    "DotProductAttention",
    "KeyValueCache",
    "LocalAttention",
    "LocationSensitiveAttention",
    "Memory",
    "MonotonicAttention",
    "MultiHeadAttention",
]


def __dir__() -> list[str]:
    return __all__
