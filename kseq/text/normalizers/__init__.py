"""Normalizers of texts, which `NormalizerSequence` joins."""

from kseq.text.normalizers.accents import StripAccents
from kseq.text.normalizers.character_filter import FilterCharacters
from kseq.text.normalizers.contractions import ExpandContractions
from kseq.text.normalizers.dates import DatesToWords, ReplaceDates
from kseq.text.normalizers.english_contractions import ENGLISH_CONTRACTIONS
from kseq.text.normalizers.html import UnescapeHTML
from kseq.text.normalizers.number_words import NumbersToWords
from kseq.text.normalizers.numbers import ReplaceNumbers
from kseq.text.normalizers.sequence import NormalizerSequence

__all__ = [
    "ENGLISH_CONTRACTIONS",
    "DatesToWords",
    "ExpandContractions",
    "FilterCharacters",
    "NormalizerSequence",
    "NumbersToWords",
    "ReplaceDates",
    "ReplaceNumbers",
    "StripAccents",
    "UnescapeHTML",
]


def __dir__() -> list[str]:
    return __all__
