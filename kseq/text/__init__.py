"""Tokenization in the graph, with the vocabulary as an asset of the exported model.

Every class uses stock TensorFlow and tensorflow-text operations alone, so an exported SavedModel tokenizes exactly as
in training. `export_saved_model` tracks the tokenizers; with a `keras.export.ExportArchive` of your own, call
`archive.track(tokenizer)`.
"""

try:
    import tensorflow_text  # noqa: F401  (registers operations that an exported model needs, too)
except ImportError as error:
    raise ImportError(
        f"kseq.text needs tensorflow-text, which could not be imported ({error}). "
        'Install it with `pip install "kseq[text]"`. If it is installed, its minor version must be that of tensorflow; '
        "the wheels of 2.21.0 cannot be loaded (undefined symbol: icudt77_dat), so use 2.21.1 or newer.",
        name="tensorflow_text",
    ) from error

from kseq.text.characters import CharacterTokenizer
from kseq.text.copied_tokens import copied_ids, replace_copies
from kseq.text.normalization import TextNormalizer
from kseq.text.special_tokens import SpecialTokens
from kseq.text.tokenizer import Tokenizer
from kseq.text.unknown import replace_unknown
from kseq.text.vocabulary import Vocabulary
from kseq.text.words import WordTokenizer

__all__ = [
    "CharacterTokenizer",
    "SpecialTokens",
    "TextNormalizer",
    "Tokenizer",
    "Vocabulary",
    "WordTokenizer",
    "copied_ids",
    "replace_copies",
    "replace_unknown",
]


def __dir__() -> list[str]:
    return __all__
