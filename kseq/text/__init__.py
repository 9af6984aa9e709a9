"""Text in the graph: from strings to tensors and back, with the vocabulary as an asset of the exported model.

- Normalizers, alone or in a `NormalizerSequence`: `TextNormalizer` (Unicode forms, case, white space), `StripAccents`,
  `FilterCharacters`, `ExpandContractions`, `UnescapeHTML`, numbers and dates to placeholders or words.
- Tokenizers, which take a normalizer: of bytes, characters, words and subwords, with their `Vocabulary`.
- Rows of ids: `SegmentPacker` for pairs of texts, `truncate_segments`, `ragged_to_dense`, `one_hot_rows`.
- Words: `StopWords`, and stems and lemmas by `Stemmer` and `Lemmatizer`, as a `WordFormTable` in the graph.
- Vectors of words: `load_embeddings`, `WordVectors`.

All of these use stock TensorFlow and tensorflow-text operations alone, so an exported SavedModel reads texts exactly as
in training. `export_saved_model` tracks the tokenizers; with a `keras.export.ExportArchive` of your own, call
`archive.track(tokenizer)`. Stemmers and lemmatizers run in Python, and their tables in the graph.
"""

import contextlib

with contextlib.suppress(ImportError):  # what needs its operations says so when it is used
    import tensorflow_text  # noqa: F401  (registers operations that an exported model needs, too)

from kseq.text.bytes import ByteTokenizer
from kseq.text.characters import CharacterTokenizer
from kseq.text.copied_tokens import copied_ids, replace_copies
from kseq.text.embeddings import WordVectors, load_embeddings
from kseq.text.normalization import Normalizer, TextNormalizer
from kseq.text.normalizers import (
    ENGLISH_CONTRACTIONS,
    DatesToWords,
    ExpandContractions,
    FilterCharacters,
    NormalizerSequence,
    NumbersToWords,
    ReplaceDates,
    ReplaceNumbers,
    StripAccents,
    UnescapeHTML,
)
from kseq.text.sentences import SentenceSplitter
from kseq.text.shaping import (
    PackedSegments,
    PaddedRows,
    SegmentPacker,
    dense_to_ragged,
    one_hot_rows,
    ragged_to_dense,
    truncate_segments,
)
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
from kseq.text.word_forms import Lemmatizer, Stemmer, StopWords, WordForms, WordFormTable, read_lemmas
from kseq.text.words import WordTokenizer

__all__ = [
    "ENGLISH_CONTRACTIONS",
    "BertNormalizer",
    "BytePairTokenizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "DatesToWords",
    "ExpandContractions",
    "FilterCharacters",
    "Lemmatizer",
    "Normalizer",
    "NormalizerSequence",
    "NumbersToWords",
    "PackedSegments",
    "PaddedRows",
    "ReplaceDates",
    "ReplaceNumbers",
    "SegmentPacker",
    "SentencePieceTokenizer",
    "SentenceSplitter",
    "SpecialTokens",
    "Stemmer",
    "StopWords",
    "StripAccents",
    "TextNormalizer",
    "Tokenizer",
    "UnescapeHTML",
    "UnicodeWordTokenizer",
    "Vocabulary",
    "WordFormTable",
    "WordForms",
    "WordPieceTokenizer",
    "WordTokenizer",
    "WordVectors",
    "copied_ids",
    "dense_to_ragged",
    "load_embeddings",
    "one_hot_rows",
    "ragged_to_dense",
    "read_lemmas",
    "replace_copies",
    "replace_unknown",
    "truncate_segments",
]


def __dir__() -> list[str]:
    return __all__
