"""Decoders: from the previous tokens and an encoded source to the logits of the next token."""

from kseq.models.decoders.bridge import Bridge
from kseq.models.decoders.decoder import Decoder, DecoderMemory, DecoderState

__all__ = ["Bridge", "Decoder", "DecoderMemory", "DecoderState"]


def __dir__() -> list[str]:
    return __all__
