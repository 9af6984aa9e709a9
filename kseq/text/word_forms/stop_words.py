"""Stop words: recognised and removed, in the graph."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, Self

import keras
import tensorflow as tf

from kseq.numbers import read_numbers
from kseq.text.corpus import as_strings
from kseq.text.language_packages import language_package
from kseq.text.normalization import Normalizer, lower, replace_invalid_utf8
from kseq.text.replacements import StringTable, replace_matches
from kseq.text.word_forms.word_form_table import WORD_OF_TEXT


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True)
class StopWords(Normalizer):
    """Recognises and removes stop words, in Python and in the graph.

    `stop_words(text)` leaves out the stop words of texts and keeps the rest, white space included, so that it is a
    normalizer for tokenizers; there a word is as in `WordFormTable`. `remove(words)` leaves them out of rows of tokens,
    and `contains(words)` tells which tokens are stop words. The list is saved, so that a loaded model
    needs no package.

    Args:
        words: The stop words; `StopWords.of_language("en")` has the list of a language.
        ignore_case: Whether words are compared in small letters. Typographic apostrophes always count as `'`.

    Call arguments are those of `Normalizer`.

    Raises:
        TypeError: If a word is not a str.
        ValueError: If there are no words, or one is empty.

    Example:
        >>> stop_words = StopWords(["the", "is"])
        >>> stop_words.remove(tf.ragged.constant([["The", "dog", "is", "here"]])).to_list()
        [[b'dog', b'here']]
        >>> stop_words("The dog is here.").numpy()
        b' dog  here.'
    """

    words: Iterable[str]
    ignore_case: bool = True

    def __post_init__(self) -> None:
        read_numbers(self)
        given = self.words
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise TypeError(f"StopWords takes a list of words, but got {given!r}. For a language: of_language('en').")
        words = list(given)
        for word in words:
            if not isinstance(word, str):
                raise TypeError(f"A stop word must be a str, but one is {word!r} of type {type(word).__name__}.")
            if not word:
                raise ValueError(f"A stop word is empty, among {len(words)} of them. Leave it out.")
        if not words:
            raise ValueError("There are no stop words. Give at least one.")
        with tf.init_scope():
            plain = [each.decode() for each in self._plain(tf.constant(words)).numpy()]
        object.__setattr__(self, "words", tuple(sorted(set(plain))))

    @classmethod
    def of_language(
        cls, language: str, *, extra: Iterable[str] = (), keep: Iterable[str] = (), ignore_case: bool = True
    ) -> Self:
        """Return the stop words of a language, from the package stopwordsiso.

        Args:
            language: Its code of two letters, such as "en"; English has 1298 words, "please" and "system" among them.
            extra: Further stop words.
            keep: Words of the list that are none, such as `["not"]`.
            ignore_case: See the class.

        Raises:
            ImportError: If stopwordsiso is not installed.
            ValueError: If it has no such language, or a word to keep is not in its list.
        """
        package = language_package("stopwordsiso", "StopWords.of_language")
        if language not in package.langs():
            raise ValueError(f"stopwordsiso has no language {language!r}. It has {', '.join(sorted(package.langs()))}.")
        words, kept = set(package.stopwords(language)), set(keep)
        if kept - words:
            raise ValueError(f"keep has words that are no stop words of {language!r}: {sorted(kept - words)}.")
        return cls([*(words - kept), *extra], ignore_case)

    def contains(self, words: Any) -> Any:
        """Return whether `words`, string of any shape, dense or ragged, are stop words: bool of the same shape."""
        if isinstance(words, tf.RaggedTensor):
            return words.with_flat_values(self.contains(words.flat_values))
        return self._table.find(self._plain(replace_invalid_utf8(as_strings(words)))) >= 0

    def _plain(self, words: tf.Tensor) -> tf.Tensor:
        """Return `words` as they are compared."""
        words = tf.strings.regex_replace(words, "[\u2019\u02bc\uff07]", "'")
        return lower(words) if self.ignore_case else words

    def remove(self, words: tf.RaggedTensor) -> Any:
        """Return `words`, ragged string `(batch, (tokens))`, without the stop words."""
        return tf.ragged.boolean_mask(words, tf.logical_not(self.contains(words)))

    def normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text`, valid UTF-8 of any shape, without the stop words."""
        return replace_matches(text, WORD_OF_TEXT, lambda words, _: tf.where(self.contains(words), "", words))

    @functools.cached_property
    def _table(self) -> StringTable:
        return StringTable(list(self.words))
