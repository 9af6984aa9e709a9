"""The contract of what gives words their forms: stemmers and lemmatizers."""

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any, Self

from kseq.text.vocabulary import Vocabulary
from kseq.text.word_forms.word_form_table import WordFormTable


@dataclasses.dataclass(frozen=True)
class WordForms(abc.ABC):
    """The contract of stemmers and lemmatizers, which run in Python; `in_graph` makes a table of a vocabulary.

    A subclass defines `form`.

    Call arguments:
        words: A word, a str, or a list of words, which may contain lists.

    Returns:
        The forms, in the same structure.

    Raises:
        TypeError: If a word is not a str.

    Example:
        >>> Stemmer("porter")(["running", "dogs"])
        ['run', 'dog']
    """

    @abc.abstractmethod
    def form(self, word: str) -> str:
        """Return the form of a word, which is not empty."""

    def __call__(self, words: Any) -> Any:
        """Return the forms of `words`, in the same structure."""
        if isinstance(words, list | tuple):
            return [self(word) for word in words]
        return self.form(checked_word(words)) if words != "" else ""

    def in_graph(self, vocabulary: Vocabulary | Iterable[str], *, unknown: str | None = None) -> WordFormTable:
        """Return the table of the words of a vocabulary, which gives the same forms in the graph.

        Args:
            vocabulary: A `Vocabulary`, such as `tokenizer.vocabulary`, or different words. The special tokens of a
                vocabulary stay as they are.
            unknown: The form of words outside the vocabulary. None: they stay as they are.

        Raises:
            TypeError: If a word is not a str.
            ValueError: If there are no words, one is empty, or one is there twice.
        """
        words, special = words_of(vocabulary)
        forms = [*(self.form(checked_word(word)) if word else word for word in words), *special]
        return WordFormTable([*words, *special], forms, unknown=unknown)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that `config` describes."""
        return cls(**config)


def checked_word(word: Any) -> str:
    """Return a word, or raise TypeError if it is not a str."""
    if not isinstance(word, str):
        raise TypeError(f"Expected a word of type str, but got {word!r} of type {type(word).__name__}.")
    return word


def words_of(vocabulary: Vocabulary | Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the words of a vocabulary, and its special tokens."""
    if isinstance(vocabulary, Vocabulary):
        special = vocabulary.special_tokens
        return [word for word in vocabulary.strings if word not in special.strings], list(special.strings)
    if isinstance(vocabulary, str | bytes) or not isinstance(vocabulary, Iterable):
        raise TypeError(f"Expected a Vocabulary or a list of words, but got {vocabulary!r}.")
    return list(vocabulary), []
