"""Whole models."""

from kseq.models.bridge import Bridge
from kseq.models.character_encoder import CharacterEncoder
from kseq.models.decoder import Decoder, DecoderMemory, DecoderState
from kseq.models.encoder import Encoded, Encoder
from kseq.models.seq2seq import Seq2Seq
from kseq.models.tagger import Tagger
from kseq.models.word_encoder import WordEncoder

__all__ = [
    "Bridge",
    "CharacterEncoder",
    "Decoder",
    "DecoderMemory",
    "DecoderState",
    "Encoded",
    "Encoder",
    "Seq2Seq",
    "Tagger",
    "WordEncoder",
]
