"""Encoders: from token ids to `Encoded` values, a mask and final states."""

from kseq.models.encoders.backbone_encoder import BackboneEncoder
from kseq.models.encoders.character_encoder import CharacterEncoder
from kseq.models.encoders.convolutional_encoder import ConvolutionalEncoder
from kseq.models.encoders.embedding_encoder import EmbeddingEncoder
from kseq.models.encoders.encoder import Encoder
from kseq.models.encoders.parallel_encoder import ParallelEncoder
from kseq.models.encoders.pyramidal_encoder import PyramidalEncoder
from kseq.models.encoders.token_encoder import Encoded, TokenEncoder
from kseq.models.encoders.transformer_encoder import TransformerEncoder
from kseq.models.encoders.word_encoder import WordEncoder

__all__ = [
    "BackboneEncoder",
    "CharacterEncoder",
    "ConvolutionalEncoder",
    "EmbeddingEncoder",
    "Encoded",
    "Encoder",
    "ParallelEncoder",
    "PyramidalEncoder",
    "TokenEncoder",
    "TransformerEncoder",
    "WordEncoder",
]


def __dir__() -> list[str]:
    return __all__
