"""Export of trained models as SavedModels for TensorFlow Serving and `kseq-serve`."""

from kseq.export.loading import ServedModel, load_saved_model
from kseq.export.options import ExportOptions
from kseq.export.saved_model import export_saved_model

__all__ = ["ExportOptions", "ServedModel", "export_saved_model", "load_saved_model"]


def __dir__() -> list[str]:
    return __all__
