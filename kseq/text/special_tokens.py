"""The four special tokens of every vocabulary, and their ids."""

import dataclasses
from typing import Any, Self

import keras

from kseq.numbers import LARGEST_ID, read_numbers


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True)
class SpecialTokens:
    """The strings and ids of padding, unknown token, begin token and end token.

    The strings stand in the vocabulary's file and in displayed tokens. They are never recognised in a text: a text
    that contains `</s>` gets ordinary or unknown tokens for it, so no input can end or pad a sequence.

    Args:
        pad: String of the padding.
        unknown: String of tokens outside the vocabulary.
        begin: String of the begin token.
        end: String of the end token.
        pad_id: Id of the padding.
        unk_id: Id of tokens outside the vocabulary.
        bos_id: Id of the begin token.
        eos_id: Id of the end token.

    Raises:
        ValueError: If two strings are equal or one is empty, or two ids are equal or one is negative.

    Example:
        >>> SpecialTokens(unknown="?").strings
        ('<pad>', '?', '<s>', '</s>')
    """

    pad: str = "<pad>"
    unknown: str = "<unk>"
    begin: str = "<s>"
    end: str = "</s>"

    pad_id: int = 0
    unk_id: int = 1
    bos_id: int = 2
    eos_id: int = 3

    def __post_init__(self) -> None:
        read_numbers(self)
        if not all(self.strings) or len(set(self.strings)) < len(self.strings):
            raise ValueError(
                "Special tokens must be four different, non-empty strings, but pad, unknown, begin, end = "
                f"{self.strings}. Give each another string."
            )
        if len(set(self.ids)) < len(self.ids) or min(self.ids) < 0 or max(self.ids) > LARGEST_ID:
            raise ValueError(
                "Special tokens need four different ids from 0 on, but pad_id, unk_id, bos_id, eos_id = "
                f"{self.ids}. Give a token that a vocabulary lacks an id of its own, after the other ids."
            )

    @property
    def strings(self) -> tuple[str, str, str, str]:
        """The strings of padding, unknown token, begin token and end token."""
        return (self.pad, self.unknown, self.begin, self.end)

    @property
    def ids(self) -> tuple[int, int, int, int]:
        """The ids of padding, unknown token, begin token and end token."""
        return (self.pad_id, self.unk_id, self.bos_id, self.eos_id)

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
