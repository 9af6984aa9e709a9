"""Whole models."""

from kseq.models.bridge import Bridge
from kseq.models.decoder import Decoder, DecoderMemory, DecoderState
from kseq.models.encoder import Encoded, Encoder
from kseq.models.seq2seq import Seq2Seq

__all__ = ["Bridge", "Decoder", "DecoderMemory", "DecoderState", "Encoded", "Encoder", "Seq2Seq"]
