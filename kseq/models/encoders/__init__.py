"""Encoders: from token ids or arrays to `Encoded` values, a mask and final states."""

from kseq.models.encoders.array_encoder import ArrayEncoder
from kseq.models.encoders.backbone_encoder import BackboneEncoder
from kseq.models.encoders.character_encoder import CharacterEncoder
from kseq.models.encoders.convolutional_encoder import ConvolutionalEncoder
from kseq.models.encoders.embedding_encoder import EmbeddingEncoder
from kseq.models.encoders.encoder import Encoder
from kseq.models.encoders.grid_encoder import GridEncoder
from kseq.models.encoders.parallel_encoder import ParallelEncoder
from kseq.models.encoders.pyramidal_encoder import PyramidalEncoder
from kseq.models.encoders.token_encoder import Encoded, TokenEncoder
from kseq.models.encoders.transformer_encoder import TransformerEncoder
from kseq.models.encoders.vector_encoder import VectorEncoder
from kseq.models.encoders.word_encoder import WordEncoder

__all__ = [
    "ArrayEncoder",
    "BackboneEncoder",
    "CharacterEncoder",
    "ConvolutionalEncoder",
    "EmbeddingEncoder",
    "Encoded",
    "Encoder",
    "GridEncoder",
    "ParallelEncoder",
    "PyramidalEncoder",
    "TokenEncoder",
    "TransformerEncoder",
    "VectorEncoder",
    "WordEncoder",
]


def __dir__() -> list[str]:
    return __all__
