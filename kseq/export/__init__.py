"""From a trained model to a folder that a server answers with."""

from kseq.export.loading import ServedModel, load_saved_model
from kseq.export.saved_model import export_saved_model

__all__ = ["ServedModel", "export_saved_model", "load_saved_model"]
