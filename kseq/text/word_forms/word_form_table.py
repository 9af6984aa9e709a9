"""The table of words and their forms in the graph."""

import dataclasses
import functools
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from kseq.text.corpus import as_strings
from kseq.text.normalization import Normalizer, replace_invalid_utf8
from kseq.text.replacements import WORD, StringTable, constant, replace_matches

# A word of a text: letters and digits, with apostrophes and hyphens inside.
WORD_OF_TEXT = rf"{WORD}+(?:['\x{{2019}}\-]{WORD}+)*"


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True)
class WordFormTable(Normalizer):
    """Replaces words by their stems, lemmas or other forms, in the graph.

    `WordForms.in_graph` makes the table of a vocabulary.

    `lookup(words)` reads tokens: a string is a word. `table(text)` reads texts, and so a table is a normalizer for
    tokenizers: it replaces the words, which are letters and digits with apostrophes and hyphens inside, and leaves the
    rest. The table is saved with its words, so that a loaded or exported model needs none of the packages that made it.

    Args:
        words: Different words, as they are written: case counts.
        forms: The form of each word.
        unknown: The form of words that are not in the table. None: they stay as they are.
        tagged: Forms that depend on the part of speech: `(word, tag, form)` each. Where there is none for a word and
            its tag, the form of the word counts.

    Call arguments are those of `Normalizer`.

    Raises:
        TypeError: If a word, form or tag is not a string.
        ValueError: If there are no words, their number is not that of the forms, a word, tag or form is empty, or one
            is there twice.

    Example:
        >>> table = WordFormTable(["dogs", "saw"], ["dog", "see"], tagged=[("saw", "NOUN", "saw")])
        >>> table.lookup(["dogs", "saw", "Saws"]).numpy()
        array([b'dog', b'see', b'Saws'], dtype=object)
        >>> table.lookup(["saw", "saw"], ["NOUN", "VERB"]).numpy()
        array([b'saw', b'see'], dtype=object)
        >>> table("I saw dogs.").numpy()
        b'I see dog.'
    """

    words: Sequence[str]
    forms: Sequence[str]
    unknown: str | None = None
    tagged: Iterable[Sequence[str]] = ()

    def __post_init__(self) -> None:
        words, forms = _strings("words", self.words), _strings("forms", self.forms)
        if not words or len(words) != len(forms):
            raise ValueError(
                f"A WordFormTable needs words and as many forms, but got {len(words)} words and {len(forms)} forms."
            )
        if self.unknown is not None and not isinstance(self.unknown, str):
            raise TypeError(f"unknown must be a string such as '<unk>', or None, but is {self.unknown!r}.")
        tagged = tuple(_strings("tagged", each) for each in self.tagged)
        wrong = [each for each in tagged if len(each) != 3]
        if wrong:
            raise ValueError(f"tagged must be (word, tag, form) each, but has {wrong[0]!r}.")
        _check_different("words", words)
        _check_different("tagged", [(word, tag) for word, tag, _ in tagged])
        for name, value in (("words", words), ("forms", forms), ("tagged", tagged)):
            object.__setattr__(self, name, value)

    def lookup(self, words: Any, tags: Any = None) -> Any:
        """Return the forms of `words`.

        Args:
            words: string of any shape, dense or ragged, such as `tokenizer.split(text)`.
            tags: The parts of speech of the words, string of the same shape. None: the forms do not depend on them.

        Returns:
            string, the shape of `words`.

        Raises:
            TypeError: If they are not strings.
            ValueError: If there are tags, but no forms that depend on them, or the shapes differ.
        """
        if isinstance(words, tf.RaggedTensor):
            flat_tags = tags.flat_values if isinstance(tags, tf.RaggedTensor) else tags
            return words.with_flat_values(self.lookup(words.flat_values, flat_tags))
        words = replace_invalid_utf8(as_strings(words))
        found = self._form(words)
        return found if tags is None else self._form_by_tag(words, as_strings(tags), found)

    def normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text`, valid UTF-8 of any shape, with the forms of its words."""
        return replace_matches(text, WORD_OF_TEXT, lambda words, _: self._form(words))

    def _form(self, words: tf.Tensor) -> tf.Tensor:
        table, forms = self._constants
        place = table.find(words)
        other = words if self.unknown is None else self.unknown
        return tf.where(place >= 0, tf.gather(forms, tf.maximum(place, 0)), other)

    def _form_by_tag(self, words: tf.Tensor, tags: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
        if not self.tagged:
            raise ValueError("This table has no forms that depend on tags: leave tags out, or give the table `tagged`.")
        if not words.shape.is_compatible_with(tags.shape):
            raise ValueError(f"tags have the shape {tags.shape}, but the words {words.shape}: give one for each word.")
        table, forms = self._tagged_constants
        place = table.find(tf.strings.join([words, tf.constant("\t"), tags]))
        return tf.where(place >= 0, tf.gather(forms, tf.maximum(place, 0)), other)

    @functools.cached_property
    def _constants(self) -> tuple[StringTable, tf.Tensor]:
        return StringTable(self.words), constant(self.forms)

    @functools.cached_property
    def _tagged_constants(self) -> tuple[StringTable, tf.Tensor]:
        rows: Any = self.tagged
        return StringTable([f"{word}\t{tag}" for word, tag, _ in rows]), constant([form for _, _, form in rows])


def _strings(name: str, values: Any) -> tuple[str, ...]:
    """Return `values` as a tuple of strings that are not empty, or raise an error."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of strings, but is {values!r}.")
    strings = tuple(values)
    for place, each in enumerate(strings):
        if not isinstance(each, str):
            raise TypeError(
                f"{name}, place {place}: expected a string, but got {each!r} of type {type(each).__name__}."
            )
        if not each:
            raise ValueError(f"{name}, place {place}: the string is empty in {reprlib.repr(strings)}.")
    return strings


def _check_different(name: str, keys: Sequence[Any]) -> None:
    seen: dict[Any, int] = {}
    for place, key in enumerate(keys):
        if seen.setdefault(key, place) != place:
            raise ValueError(f"{name}: {key!r} is there twice, at {seen[key]} and {place}. Give each one form.")
