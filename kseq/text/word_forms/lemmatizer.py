"""Lemmas by form, and by form and part of speech."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from kseq.numbers import flag
from kseq.text.language_packages import language_package
from kseq.text.vocabulary import Vocabulary
from kseq.text.word_forms.word_form_table import WordFormTable
from kseq.text.word_forms.word_forms import WordForms, checked_word, words_of


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True)
class Lemmatizer(WordForms):
    """Finds the lemmas of words: by their form as the package simplemma, or by form and part of speech.

    simplemma knows one lemma of a form. Where the part of speech decides ("saw", a noun, or a form of "see"), the lemma
    comes from `table`, which `kseq.text.read_lemmas` reads from a treebank: the lemma of the form as it is written,
    else of the form in small letters, with that part of speech. Where the table has none, it is simplemma's.

    Args:
        language: The code of a language of simplemma, such as "en", "de", "fr", "es" or "ru", or a list of them, the
            most important first.
        greedy: Whether simplemma also guesses the lemmas of unknown words by rules that are less certain.
        table: Lemmas by part of speech and form, `{"NOUN": {"saw": "saw"}, "VERB": {"saw": "see"}}`. None: parts of
            speech do not count.

    Call arguments:
        words: A word, a str, or a list of words.
        tags: The parts of speech, such as those of a `Tagger`, in the same structure. None: by form alone.

    Returns:
        The lemmas, in the same structure.

    Raises:
        ImportError: If simplemma is not installed. A table made by `in_graph` does without it.
        TypeError: If a word is not a str, or `table` not a mapping of mappings.
        ValueError: If simplemma has no such language, `table` has an empty string, or there are tags but no `table`.

    Example:
        >>> lemmatizer = Lemmatizer("en", table={"NOUN": {"saw": "saw"}})
        >>> lemmatizer(["dogs", "saw"]), lemmatizer(["dogs", "saw"], ["NOUN", "NOUN"])
        (['dog', 'see'], ['dog', 'saw'])
    """

    language: str | Iterable[str] = "en"
    greedy: bool = False
    table: Mapping[str, Mapping[str, str]] | None = dataclasses.field(default=None, hash=False)

    def __post_init__(self) -> None:
        language_package("simplemma", "Lemmatizer")
        known = language_package(
            "simplemma.strategies.dictionaries.dictionary_factory", "Lemmatizer"
        ).SUPPORTED_LANGUAGES
        given = self.language
        languages = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else ()
        unknown = [each for each in languages if each not in known]
        if not languages or unknown:
            raise ValueError(f"simplemma has no language {given!r}. It has {', '.join(sorted(known))}.")
        object.__setattr__(self, "language", given if isinstance(given, str) else languages)
        flag("greedy", self.greedy)
        if self.table is not None:
            object.__setattr__(self, "table", _checked(self.table))

    def __call__(self, words: Any, tags: Any = None) -> Any:
        """Return the lemmas of `words`, in the same structure."""
        if tags is None:
            return super().__call__(words)
        if isinstance(words, list | tuple):
            return [self(word, tag) for word, tag in zip(words, tags, strict=True)]
        return self.form(checked_word(words), checked_word(tags)) if words != "" else ""

    def form(self, word: str, tag: str | None = None) -> str:
        """Return the lemma of a word, with a part of speech or whatever it is."""
        if tag is not None:
            if self.table is None:
                raise ValueError(
                    f"This Lemmatizer has no table for the part of speech {tag!r}. Give it one, "
                    "Lemmatizer(table=read_lemmas(path)), or leave the tags out."
                )
            lemmas = self.table.get(tag, {})
            if (lemma := lemmas.get(word) or lemmas.get(word.lower())) is not None:
                return lemma
        lemmatize = language_package("simplemma", "Lemmatizer").lemmatize
        return lemmatize(word, lang=self.language, greedy=self.greedy) or word

    def in_graph(self, vocabulary: Vocabulary | Iterable[str], *, unknown: str | None = None) -> WordFormTable:
        """Return the table of the words of a vocabulary; with the parts of speech of `table`, if there is one.

        Args:
            vocabulary: A `Vocabulary`, such as `tokenizer.vocabulary`, or different words. The special tokens of a
                vocabulary stay as they are.
            unknown: The lemma of words outside the vocabulary. None: they stay as they are.

        Raises:
            TypeError: If a word is not a str.
            ValueError: If there are no words, one is empty, or one is there twice.
        """
        table = super().in_graph(vocabulary, unknown=unknown)
        words, _ = words_of(table.words if not isinstance(vocabulary, Vocabulary) else vocabulary)
        by_form = dict(zip(table.words, table.forms, strict=True))
        tagged = [
            (word, tag, lemma)
            for tag in self.table or ()
            for word in words
            if (lemma := self.form(word, tag)) != by_form[word]
        ]
        return dataclasses.replace(table, tagged=tagged)


def _checked(table: Any) -> dict[str, dict[str, str]]:
    """Return a table of lemmas as plain dicts, or raise an error."""
    if not isinstance(table, Mapping) or not all(isinstance(lemmas, Mapping) for lemmas in table.values()):
        raise TypeError(f"table must be {{tag: {{form: lemma}}}}, as read_lemmas returns it, but is {table!r}.")
    for tag, lemmas in table.items():
        for part in (tag, *lemmas, *lemmas.values()):
            checked_word(part)
        for form, lemma in lemmas.items():
            if not (tag and form and lemma):
                raise ValueError(f"table: the tag, the form or the lemma is empty in {tag!r}: {form!r} -> {lemma!r}.")
    if not any(table.values()):
        raise ValueError(f"table has no lemmas: {table!r}. Leave it out for lemmas by form alone.")
    return {tag: dict(lemmas) for tag, lemmas in table.items()}
