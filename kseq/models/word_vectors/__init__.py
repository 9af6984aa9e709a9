"""Models that learn vectors of words."""

from kseq.models.word_vectors.cbow import CBOW
from kseq.models.word_vectors.glove import GloVe
from kseq.models.word_vectors.skip_gram import SkipGram

__all__ = ["CBOW", "GloVe", "SkipGram"]


def __dir__() -> list[str]:
    return __all__
