"""Export of trained models as SavedModels for TensorFlow Serving and `kseq-serve`."""

from kseq.export.answers import Classes, Ctc, Sequence, Tags, Vectors
from kseq.export.inputs import Features, Pixels, Png, Text, Tokens, Wav
from kseq.export.loading import ServedModel, load_saved_model
from kseq.export.options import ExportOptions
from kseq.export.saved_model import export_saved_model

__all__ = [
    "Classes",
    "Ctc",
    "ExportOptions",
    "Features",
    "Pixels",
    "Png",
    "Sequence",
    "ServedModel",
    "Tags",
    "Text",
    "Tokens",
    "Vectors",
    "Wav",
    "export_saved_model",
    "load_saved_model",
]


def __dir__() -> list[str]:
    return __all__
