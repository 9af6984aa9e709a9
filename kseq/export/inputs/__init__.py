"""Presets for what an exported model reads, by name. A new preset is a file, its test, and a line here."""

from kseq.export.inputs.audio import Wav
from kseq.export.inputs.images import Pixels, Png
from kseq.export.inputs.preset import InputPreset
from kseq.export.inputs.steps import Features, Text, Tokens

INPUTS: dict[str, InputPreset] = {
    "text": Text(),
    "tokens": Tokens(),
    "features": Features(),
    "png": Png(),
    "pixels": Pixels(),
    "wav": Wav(),
}

__all__ = ["INPUTS", "Features", "InputPreset", "Pixels", "Png", "Text", "Tokens", "Wav"]


def __dir__() -> list[str]:
    return __all__
