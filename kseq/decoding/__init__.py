"""Decoding: strategies that write sequences with a model's step, with one contract (`Strategy`) and one file each."""

from kseq.decoding import constraints
from kseq.decoding.beam_search import BeamSearch, beam_search
from kseq.decoding.constraints import MinimumLength, SuppressedTokens
from kseq.decoding.contrastive_search import ContrastiveSearch, contrastive_search
from kseq.decoding.crf import CRFDecoded, crf_decode, crf_marginals
from kseq.decoding.ctc import (
    CTCBeamSearch,
    CTCDecoded,
    CTCJointStep,
    CTCPrefixStep,
    CTCStream,
    CTCStreaming,
    HotWords,
    LanguageModelScorer,
    Lexicon,
    NGram,
    NGramScorer,
    Scorer,
    WordNGramScorer,
    ctc_beam_search,
    ctc_greedy_decode,
)
from kseq.decoding.decoding import LOG_ZERO, Constraint, Decoded, Prefix, ScoredStepOutput, StepOutput
from kseq.decoding.diverse_beam_search import DiverseBeamSearch, diverse_beam_search
from kseq.decoding.ensemble import EnsembleStep, FusionStep
from kseq.decoding.greedy import GreedySearch, greedy_search
from kseq.decoding.keras_hub import CausalLMState, CausalLMStep, sample_with_keras_hub
from kseq.decoding.names import get_ctc_strategy, get_strategy
from kseq.decoding.sampling import Sampling, sample
from kseq.decoding.scoring import rescore, token_log_probabilities
from kseq.decoding.stochastic_beam_search import StochasticBeamSearch, stochastic_beam_search
from kseq.decoding.strategy import Strategy
from kseq.decoding.token_streaming import StreamedTokens, TokenStreaming, stream
from kseq.decoding.unmoved_state import InPlace, UnmovedState, look_back

__all__ = [
    "LOG_ZERO",
    "BeamSearch",
    "CRFDecoded",
    "CTCBeamSearch",
    "CTCDecoded",
    "CTCJointStep",
    "CTCPrefixStep",
    "CTCStream",
    "CTCStreaming",
    "CausalLMState",
    "CausalLMStep",
    "Constraint",
    "ContrastiveSearch",
    "Decoded",
    "DiverseBeamSearch",
    "EnsembleStep",
    "FusionStep",
    "GreedySearch",
    "HotWords",
    "InPlace",
    "LanguageModelScorer",
    "Lexicon",
    "MinimumLength",
    "NGram",
    "NGramScorer",
    "Prefix",
    "Sampling",
    "ScoredStepOutput",
    "Scorer",
    "StepOutput",
    "StochasticBeamSearch",
    "Strategy",
    "StreamedTokens",
    "SuppressedTokens",
    "TokenStreaming",
    "UnmovedState",
    "WordNGramScorer",
    "beam_search",
    "constraints",
    "contrastive_search",
    "crf_decode",
    "crf_marginals",
    "ctc_beam_search",
    "ctc_greedy_decode",
    "diverse_beam_search",
    "get_ctc_strategy",
    "get_strategy",
    "greedy_search",
    "look_back",
    "rescore",
    "sample",
    "sample_with_keras_hub",
    "stochastic_beam_search",
    "stream",
    "token_log_probabilities",
]


def __dir__() -> list[str]:
    return __all__
