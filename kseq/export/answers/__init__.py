"""Presets for what an exported model answers, by name. A new preset is a file, its test, and a line here."""

from kseq.export.answers.classes import Classes
from kseq.export.answers.ctc import Ctc
from kseq.export.answers.preset import AnswerPreset
from kseq.export.answers.tags import Tags
from kseq.export.answers.values import Sequence, Vectors

ANSWERS: dict[str, AnswerPreset] = {
    "ctc": Ctc(),
    "tags": Tags(),
    "classes": Classes(),
    "vectors": Vectors(),
    "sequence": Sequence(),
}

__all__ = ["ANSWERS", "AnswerPreset", "Classes", "Ctc", "Sequence", "Tags", "Vectors"]


def __dir__() -> list[str]:
    return __all__
