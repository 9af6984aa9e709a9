"""Constraints on what may be written: log-probabilities of the next token are lowered, by a state of the hypothesis.

Each is a `Constraint`; its docstring in `kseq.decoding.decoding` says how to write one's own. They hold for whatever
strategy, and for all tokens after a prompt; the prompt's tokens count as written.
"""

from kseq.decoding.constraints.allowed_outputs import AllowedOutputs
from kseq.decoding.constraints.first_token import FirstToken
from kseq.decoding.constraints.frequency_penalty import FrequencyPenalty
from kseq.decoding.constraints.last_token import LastToken
from kseq.decoding.constraints.minimum_length import MinimumLength, with_minimum_length
from kseq.decoding.constraints.no_repeated_ngram import NoRepeatedNGram
from kseq.decoding.constraints.repetition_penalty import RepetitionPenalty
from kseq.decoding.constraints.required_phrases import RequiredPhrases
from kseq.decoding.constraints.suppressed_tokens import SuppressedTokens

__all__ = [
    "AllowedOutputs",
    "FirstToken",
    "FrequencyPenalty",
    "LastToken",
    "MinimumLength",
    "NoRepeatedNGram",
    "RepetitionPenalty",
    "RequiredPhrases",
    "SuppressedTokens",
    "with_minimum_length",
]
