"""Decoding: every way to write a sequence with a model's step, one contract (`Strategy`), one file a strategy."""

from kseq.decoding.beam_search import BeamSearch, beam_search
from kseq.decoding.constraints import MinimumLength, SuppressedTokens
from kseq.decoding.decoding import LOG_ZERO, Constraint, Decoded, Prefix, Strategy
from kseq.decoding.greedy import GreedySearch, greedy_search

__all__ = [
    "LOG_ZERO",
    "BeamSearch",
    "Constraint",
    "Decoded",
    "GreedySearch",
    "MinimumLength",
    "Prefix",
    "Strategy",
    "SuppressedTokens",
    "beam_search",
    "greedy_search",
]
