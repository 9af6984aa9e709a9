"""Decoding of CTC: greedy and prefix beam search, of whole utterances or of chunks, and scorers of prefixes."""

from kseq.decoding.ctc.hot_words import HotWords
from kseq.decoding.ctc.language_model import LanguageModelScorer
from kseq.decoding.ctc.lexicon import Lexicon
from kseq.decoding.ctc.ngram import NGram, NGramScorer
from kseq.decoding.ctc.prefix_scores import CTCJointStep, CTCPrefixStep
from kseq.decoding.ctc.scorer import Scorer
from kseq.decoding.ctc.search import CTCBeamSearch, CTCDecoded, ctc_beam_search, ctc_greedy_decode
from kseq.decoding.ctc.streaming import CTCStream, CTCStreaming
from kseq.decoding.ctc.word_ngram import WordNGramScorer

__all__ = [
    "CTCBeamSearch",
    "CTCDecoded",
    "CTCJointStep",
    "CTCPrefixStep",
    "CTCStream",
    "CTCStreaming",
    "HotWords",
    "LanguageModelScorer",
    "Lexicon",
    "NGram",
    "NGramScorer",
    "Scorer",
    "WordNGramScorer",
    "ctc_beam_search",
    "ctc_greedy_decode",
]


def __dir__() -> list[str]:
    return __all__
