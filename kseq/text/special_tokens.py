"""The four tokens that every vocabulary begins with."""

import dataclasses
from typing import Any, ClassVar, Self

import keras


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """How padding, the unknown, the beginning and the end are written; their ids are always 0, 1, 2 and 3.

    The strings are names in the vocabulary's file and in what is shown. They are never recognised in a text: a text
    that contains `</s>` gets ordinary tokens (or the unknown one) for it, so no input can end or pad a sequence.

    Args:
        pad: Written for padding, id 0.
        unknown: Written for what the vocabulary lacks, id 1.
        begin: Written for the beginning of a sequence, id 2.
        end: Written for the end of a sequence, id 3.

    Raises:
        ValueError: If two are equal or one is empty.

    Example:
        >>> SpecialTokens(unknown="?").strings
        ('<pad>', '?', '<s>', '</s>')
    """

    pad: str = "<pad>"
    unknown: str = "<unk>"
    begin: str = "<s>"
    end: str = "</s>"

    pad_id: ClassVar[int] = 0
    unk_id: ClassVar[int] = 1
    bos_id: ClassVar[int] = 2
    eos_id: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if not all(self.strings) or len(set(self.strings)) < len(self.strings):
            raise ValueError(
                "Special tokens must be four different, non-empty strings, but pad, unknown, begin, end = "
                f"{self.strings}. Give each a text of its own."
            )

    @property
    def strings(self) -> tuple[str, str, str, str]:
        """The four strings in the order of their ids."""
        return (self.pad, self.unknown, self.begin, self.end)

    def __len__(self) -> int:
        return len(self.strings)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` builds an equal object from."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that `config` describes."""
        return cls(**config)
