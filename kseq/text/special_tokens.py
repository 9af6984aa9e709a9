"""The four special tokens at the beginning of every vocabulary."""

import dataclasses
from typing import Any, ClassVar, Self

import keras


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """The strings of padding, unknown token, begin token and end token; their ids are always 0, 1, 2 and 3.

    The strings stand in the vocabulary's file and in displayed tokens. They are never recognised in a text: a text
    that contains `</s>` gets ordinary or unknown tokens for it, so no input can end or pad a sequence.

    Args:
        pad: String of the padding, id 0.
        unknown: String of tokens outside the vocabulary, id 1.
        begin: String of the begin token, id 2.
        end: String of the end token, id 3.

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
                f"{self.strings}. Give each another string."
            )

    @property
    def strings(self) -> tuple[str, str, str, str]:
        """The four strings in the order of their ids."""
        return (self.pad, self.unknown, self.begin, self.end)

    def __len__(self) -> int:
        return len(self.strings)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that `config` describes."""
        return cls(**config)


def checked_special_tokens(special_tokens: Any) -> SpecialTokens | None:
    """Return `special_tokens`, or raise TypeError if they are neither `SpecialTokens` nor None."""
    if special_tokens is not None and not isinstance(special_tokens, SpecialTokens):
        raise TypeError(
            f"special_tokens must be SpecialTokens, such as SpecialTokens(unknown='?'), but is {special_tokens!r}."
        )
    return special_tokens
