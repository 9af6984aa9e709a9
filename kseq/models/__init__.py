"""Whole models."""

from kseq.models.bridge import Bridge
from kseq.models.character_encoder import CharacterEncoder
from kseq.models.ctc_recognizer import CTCRecognizer
from kseq.models.decoder import Decoder, DecoderMemory, DecoderState
from kseq.models.encoder import Encoded, Encoder
from kseq.models.ensemble import Ensemble
from kseq.models.front_end import FrameConvolutions, FrameStacking
from kseq.models.front_end_chain import FrontEndChain
from kseq.models.log_mel import LogMelSpectrogram
from kseq.models.scoring import sequence_log_probability
from kseq.models.seq2seq import Seq2Seq
from kseq.models.serving import Serving, ServingOptions, StepInputs
from kseq.models.tagger import Tagger
from kseq.models.token_error_rate import TokenErrorRate, error_rates
from kseq.models.word_encoder import WordEncoder

__all__ = [
    "Bridge",
    "CTCRecognizer",
    "CharacterEncoder",
    "Decoder",
    "DecoderMemory",
    "DecoderState",
    "Encoded",
    "Encoder",
    "Ensemble",
    "FrameConvolutions",
    "FrameStacking",
    "FrontEndChain",
    "LogMelSpectrogram",
    "Seq2Seq",
    "Serving",
    "ServingOptions",
    "StepInputs",
    "Tagger",
    "TokenErrorRate",
    "WordEncoder",
    "error_rates",
    "sequence_log_probability",
]
