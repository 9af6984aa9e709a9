"""Front ends: layers between raw features and a recurrent encoder.

A front end is a Keras layer with `call(values, lengths)`, `frames(lengths)`, `subsampling` and `compute_output_shape`.
It takes float `(batch, time, features)` and int `(batch,)`, and returns float `(batch, frames(time), channels)`, zero
in the padding. A row's output depends neither on the padding nor on the other rows.
"""

from kseq.frontends.chain import FrontEndChain
from kseq.frontends.frame_convolutions import FrameConvolutions
from kseq.frontends.frame_stacking import FrameStacking
from kseq.frontends.log_mel import LogMelSpectrogram
from kseq.frontends.spec_augment import SpecAugment

__all__ = ["FrameConvolutions", "FrameStacking", "FrontEndChain", "LogMelSpectrogram", "SpecAugment"]


def __dir__() -> list[str]:
    return __all__
