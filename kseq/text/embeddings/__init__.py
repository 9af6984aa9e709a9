"""Published and self-trained vectors of words, from files, for a vocabulary."""

from kseq.text.embeddings.load_embeddings import load_embeddings
from kseq.text.embeddings.word_vectors import WordVectors

__all__ = ["WordVectors", "load_embeddings"]


def __dir__() -> list[str]:
    return __all__
