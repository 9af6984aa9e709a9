"""Whole models and their parts.

Front ends are in `kseq.frontends` and error rates in `kseq.metrics`; for compatibility, both can be imported from here.
"""

from kseq.frontends import FrameConvolutions, FrameStacking, FrontEndChain, LogMelSpectrogram
from kseq.metrics import TokenErrorRate, error_rates
from kseq.models.ctc_recognizer import CTCRecognizer
from kseq.models.decoders import (
    Bridge,
    Decoder,
    DecoderMemory,
    DecoderState,
    HardMonotonicDecoder,
    PointerDecoder,
    TransformerDecoder,
    TransformerMemory,
    TransformerState,
)
from kseq.models.encoders import (
    ArrayEncoder,
    BackboneEncoder,
    CharacterEncoder,
    ConvolutionalEncoder,
    EmbeddingEncoder,
    Encoded,
    Encoder,
    GridEncoder,
    ParallelEncoder,
    PyramidalEncoder,
    TokenEncoder,
    TransformerEncoder,
    VectorEncoder,
    WordEncoder,
)
from kseq.models.ensemble import Ensemble
from kseq.models.export_contract import RowInputs, Serving, ServingOptions, StepInputs
from kseq.models.forecaster import Forecaster
from kseq.models.language_model import LanguageModel
from kseq.models.seq2seq import Seq2Seq
from kseq.models.sequence_classifier import SequenceClassifier
from kseq.models.sequence_probability import sequence_log_probability
from kseq.models.series.paths import Forecast
from kseq.models.tagger import Tagger
from kseq.models.word_vectors import CBOW, GloVe, SkipGram

__all__ = [
    "CBOW",
    "ArrayEncoder",
    "BackboneEncoder",
    "Bridge",
    "CTCRecognizer",
    "CharacterEncoder",
    "ConvolutionalEncoder",
    "Decoder",
    "DecoderMemory",
    "DecoderState",
    "EmbeddingEncoder",
    "Encoded",
    "Encoder",
    "Ensemble",
    "Forecast",
    "Forecaster",
    "FrameConvolutions",
    "FrameStacking",
    "FrontEndChain",
    "GloVe",
    "GridEncoder",
    "HardMonotonicDecoder",
    "LanguageModel",
    "LogMelSpectrogram",
    "ParallelEncoder",
    "PointerDecoder",
    "PyramidalEncoder",
    "RowInputs",
    "Seq2Seq",
    "SequenceClassifier",
    "Serving",
    "ServingOptions",
    "SkipGram",
    "StepInputs",
    "Tagger",
    "TokenEncoder",
    "TokenErrorRate",
    "TransformerDecoder",
    "TransformerEncoder",
    "TransformerMemory",
    "TransformerState",
    "VectorEncoder",
    "WordEncoder",
    "error_rates",
    "sequence_log_probability",
]


def __dir__() -> list[str]:
    return __all__
