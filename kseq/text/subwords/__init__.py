"""Tokenizers of subwords, trained here or loaded from the files of the libraries that trained them."""

from kseq.text.subwords.bert_normalization import BertNormalizer
from kseq.text.subwords.byte_pairs import BytePairTokenizer
from kseq.text.subwords.sentence_pieces import SentencePieceTokenizer
from kseq.text.subwords.subword_tokenizer import SubwordTokenizer
from kseq.text.subwords.word_pieces import WordPieceTokenizer

__all__ = [
    "BertNormalizer",
    "BytePairTokenizer",
    "SentencePieceTokenizer",
    "SubwordTokenizer",
    "WordPieceTokenizer",
]


def __dir__() -> list[str]:
    return __all__
