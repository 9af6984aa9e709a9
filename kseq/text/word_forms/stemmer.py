"""Stems by the algorithms of Porter and Lancaster, and Snowball."""

import dataclasses
import functools
from typing import Any, Literal, get_args

import keras

from kseq.text.language_packages import language_package
from kseq.text.word_forms.word_forms import WordForms

Algorithm = Literal["porter", "snowball", "lancaster"]
SNOWBALL_LANGUAGES = {
    **{"ar": "arabic", "da": "danish", "nl": "dutch", "en": "english", "fi": "finnish", "fr": "french"},
    **{"de": "german", "hu": "hungarian", "it": "italian", "no": "norwegian", "pt": "portuguese"},
    **{"ro": "romanian", "ru": "russian", "es": "spanish", "sv": "swedish"},
}


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True)
class Stemmer(WordForms):
    """Reduces words to their stems, as NLTK does, in small letters. A word of which nothing is left stays as it is.

    Args:
        algorithm: "snowball" (default), for many languages; "porter", the original for English, with NLTK's extensions;
            or "lancaster", for English, which cuts most.
        language: The code of the language: "en", and for "snowball" also "ar", "da", "nl", "fi", "fr", "de", "hu",
            "it", "no", "pt", "ro", "ru", "es" and "sv".

    Call arguments are those of `WordForms`.

    Raises:
        ImportError: If NLTK is not installed. A table made by `in_graph` does without it.
        ValueError: If the algorithm is unknown, or has no such language.

    Example:
        >>> stemmer = Stemmer("snowball", "en")
        >>> stemmer("running"), stemmer(["dogs", "Generously"])
        ('run', ['dog', 'generous'])
        >>> table = stemmer.in_graph(["running", "dogs"])
        >>> table("Both dogs are running").numpy()
        b'Both dog are run'

    Reference:
        - M. Porter, "An algorithm for suffix stripping", 1980; "Snowball: a language for stemming algorithms", 2001.
        - C. Paice, "Another stemmer", 1990.
    """

    algorithm: Algorithm = "snowball"
    language: str = "en"

    def __post_init__(self) -> None:
        if self.algorithm not in get_args(Algorithm):
            raise ValueError(f"algorithm must be one of {get_args(Algorithm)}, but is {self.algorithm!r}.")
        languages = list(SNOWBALL_LANGUAGES) if self.algorithm == "snowball" else ["en"]
        if self.language not in languages:
            raise ValueError(f"{self.algorithm} has no language {self.language!r}. It has {', '.join(languages)}.")
        _stemmer(self.algorithm, self.language)

    def form(self, word: str) -> str:
        """Return the stem of a word."""
        return _stemmer(self.algorithm, self.language).stem(word) or word


@functools.cache
def _stemmer(algorithm: Algorithm, language: str) -> Any:
    language_package("nltk", "Stemmer")
    stem = language_package("nltk.stem", "Stemmer")
    if algorithm == "snowball":
        return stem.SnowballStemmer(SNOWBALL_LANGUAGES[language])
    return stem.PorterStemmer() if algorithm == "porter" else stem.LancasterStemmer()
