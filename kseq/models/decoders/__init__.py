"""Decoders: from the previous tokens and an encoded source to the logits of the next token."""

from kseq.models.decoders.bridge import Bridge
from kseq.models.decoders.decoder import Decoder, DecoderMemory, DecoderState
from kseq.models.decoders.hard_monotonic_decoder import HardMonotonicDecoder
from kseq.models.decoders.pointer_decoder import PointerDecoder
from kseq.models.decoders.transformer_decoder import TransformerDecoder, TransformerMemory, TransformerState

__all__ = [
    "Bridge",
    "Decoder",
    "DecoderMemory",
    "DecoderState",
    "HardMonotonicDecoder",
    "PointerDecoder",
    "TransformerDecoder",
    "TransformerMemory",
    "TransformerState",
]


def __dir__() -> list[str]:
    return __all__
