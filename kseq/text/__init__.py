"""Tokenization in the graph, with the vocabulary as an asset of the exported model.

Every class uses stock TensorFlow and tensorflow-text operations alone, so an exported SavedModel tokenizes exactly as
in training. `export_saved_model` tracks the tokenizers; with a `keras.export.ExportArchive` of your own, call
`archive.track(tokenizer)`.
"""

import contextlib

with contextlib.suppress(ImportError):  # what needs its operations says so when it is used
    import tensorflow_text  # noqa: F401  (registers operations that an exported model needs, too)

from kseq.text.bytes import ByteTokenizer
from kseq.text.characters import CharacterTokenizer
from kseq.text.copied_tokens import copied_ids, replace_copies
from kseq.text.embeddings import WordVectors, load_embeddings
from kseq.text.normalization import TextNormalizer
from kseq.text.sentences import SentenceSplitter
from kseq.text.special_tokens import SpecialTokens
from kseq.text.subwords import (
    BertNormalizer,
    BytePairTokenizer,
    SentencePieceTokenizer,
    WordPieceTokenizer,
)
from kseq.text.tokenizer import Tokenizer
from kseq.text.unicode_words import UnicodeWordTokenizer
from kseq.text.unknown import replace_unknown
from kseq.text.vocabulary import Vocabulary
from kseq.text.words import WordTokenizer

__all__ = [
    "BertNormalizer",
    "BytePairTokenizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "SentencePieceTokenizer",
    "SentenceSplitter",
    "SpecialTokens",
    "TextNormalizer",
    "Tokenizer",
    "UnicodeWordTokenizer",
    "Vocabulary",
    "WordPieceTokenizer",
    "WordTokenizer",
    "WordVectors",
    "copied_ids",
    "load_embeddings",
    "replace_copies",
    "replace_unknown",
]


def __dir__() -> list[str]:
    return __all__
