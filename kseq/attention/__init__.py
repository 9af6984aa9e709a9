"""Attention mechanisms, subclasses of `Attention`."""

from kseq.attention.additive import AdditiveAttention, BahdanauAttention
from kseq.attention.attention import Attention, Memory
from kseq.attention.dot_product import DotProductAttention

__all__ = ["AdditiveAttention", "Attention", "BahdanauAttention", "DotProductAttention", "Memory"]


def __dir__() -> list[str]:
    return __all__
