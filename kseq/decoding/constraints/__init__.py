"""Constraints on the tokens of hypotheses: they lower log-probabilities of the next token, and may have a state.

Each is a `Constraint`, whose docstring in `kseq.decoding.decoding` explains how to write another. They apply in every
strategy, to all tokens after a prompt; the prompt's tokens count as written.
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


def __dir__() -> list[str]:
    return __all__
