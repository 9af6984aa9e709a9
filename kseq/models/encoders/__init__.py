"""Encoders: from token ids to `Encoded` values, a mask and final states."""

from kseq.models.encoders.character_encoder import CharacterEncoder
from kseq.models.encoders.encoder import Encoded, Encoder
from kseq.models.encoders.word_encoder import WordEncoder

__all__ = ["CharacterEncoder", "Encoded", "Encoder", "WordEncoder"]


def __dir__() -> list[str]:
    return __all__
