"""Expansion of contractions."""

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

from kseq.text.normalization import Normalizer, lower
from kseq.text.normalizers.english_contractions import ENGLISH_CONTRACTIONS
from kseq.text.replacements import WORD, StringTable, constant, replace_matches

# The apostrophe, typographic ones, and the quotation marks, accents and primes that are typed for it.
_APOSTROPHES = "'\u2019\u02bc\uff07\u2018\u201b\u2032\u00b4\u0060"
_APOSTROPHE = f"[{_APOSTROPHES}]"
_WORD = WORD.replace("_", "")
_INSIDE = rf"(?:{_APOSTROPHE}{_WORD}+)"
_CAPITALS = r"[^\p{Ll}]*\p{Lu}[^\p{Ll}]*\p{Lu}[^\p{Ll}]*"
_CAPITAL = r"[^\p{L}]*\p{Lu}(?s:.)*"


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpandContractions(Normalizer):
    r"""Writes contractions in full: "Don't" becomes "Do not", and "WE'LL" becomes "WE WILL".

    A word in capitals gets an expansion in capitals, and a word that begins with a capital gets an expansion that does.
    The apostrophe is `'`, or one of the typographic ones U+2019, U+02BC and U+FF07, or what is typed for it: U+2018,
    U+201B, U+2032, the acute accent U+00B4 and the grave accent U+0060.

    A contraction is a whole word, and what it becomes does not depend on the words beside it. In the English table "'s"
    is "is" after pronouns and question words ("it's", "who's"), also where it stands for "has" ("he's done it"), and
    stays elsewhere, because it mostly marks the possessive; "'d" is "would" except after question words; and "ain't" is
    "is not", also after "I" and "they".

    Args:
        table: Expansions by contraction, written in small letters and with `'`. A contraction `"*n't"` is the end of
            any word, with an expansion such as `"* not"`, and `"c'*"` is the beginning of any word, with an expansion
            such as `"ce *"`. Whole words go first, then ends, then beginnings, and of each the longer before the
            shorter ones. If no contraction is without an apostrophe, only words with one are looked up. None: the
            English table, `kseq.text.ENGLISH_CONTRACTIONS`.

    Call arguments are those of `Normalizer`.

    Raises:
        TypeError: If `table` is not a mapping of strings.
        ValueError: If it is empty, a contraction or expansion is empty or is not a word, or a contraction is
            there twice.

    Example:
        >>> ExpandContractions()("I\u2019m sure they WON'T.").numpy()
        b'I am sure they WILL NOT.'
        >>> german = ExpandContractions(table={"im": "in dem", "zum": "zu dem"})
        >>> german("Im Haus").numpy()
        b'In dem Haus'
    """

    table: Mapping[str, str] | None = dataclasses.field(default=None, hash=False)

    def __post_init__(self) -> None:
        if self.table is not None:
            object.__setattr__(self, "table", _checked(self.table))

    def normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text`, valid UTF-8 of any shape, with contractions in full."""
        return replace_matches(text, self._parts.pattern, lambda words, _: self._parts.expand(words))

    @functools.cached_property
    def _parts(self) -> "_Table":
        return _Table(ENGLISH_CONTRACTIONS if self.table is None else self.table)


class _Table:
    """The constants of the graph that expand words."""

    def __init__(self, table: Mapping[str, str]):
        leading = any(key.startswith("'") for key in table)
        inside = "+" if all("'" in key for key in table) else "*"
        initial = f"{_APOSTROPHE}{_WORD}+{_INSIDE}*|" if leading else ""
        self.pattern = f"{initial}{_WORD}+{_INSIDE}{inside}"
        self.words = _Expansions({key: value for key, value in table.items() if "*" not in key})
        ends = {key[1:]: value[1:] for key, value in table.items() if key.startswith("*")}
        starts = {key[:-1]: value[:-1] for key, value in table.items() if key.endswith("*")}
        self.ends, self.starts = _Expansions(ends), _Expansions(starts)
        # The beginning is the shortest possible one, so the end is the longest.
        self.end = rf"\A((?s:.)+?)((?i:{_alternatives(ends)}))\z" if ends else None
        self.start = rf"\A((?i:{_alternatives(starts)}))((?s:.)+)\z" if starts else None

    def expand(self, words: tf.Tensor) -> tf.Tensor:
        """Return the expansions of `words`, string `(words,)`, or the words as they are."""
        capitals, capital = (tf.strings.regex_full_match(words, pattern) for pattern in (_CAPITALS, _CAPITAL))
        style = tf.where(capitals, 2, tf.where(capital, 1, 0))
        # An apostrophe before a word that is in the table without it is a quotation mark.
        quote = tf.strings.regex_replace(words, rf"\A({_APOSTROPHE}?)(?s:.)*\z", r"\1")
        quoted = tf.strings.regex_replace(words, rf"\A{_APOSTROPHE}", "")
        found = words
        if self.start is not None:
            has_start = tf.strings.regex_full_match(quoted, self.start)
            start, rest = (tf.strings.regex_replace(quoted, self.start, part) for part in (r"\1", r"\2"))
            beginning, known_start = self.starts.find(start, style)
            found = tf.where(has_start & known_start, tf.strings.join([quote, beginning, rest]), words)
        if self.end is not None:
            has_end = tf.strings.regex_full_match(quoted, self.end)
            stem, end = (tf.strings.regex_replace(quoted, self.end, part) for part in (r"\1", r"\2"))
            ending, known_end = self.ends.find(end, tf.where(capitals, 2, 0))
            found = tf.where(has_end & known_end, tf.strings.join([quote, stem, ending]), found)
        inner, known_inner = self.words.find(quoted, style)
        whole, known = self.words.find(words, style)
        return tf.where(known, whole, tf.where(known_inner, tf.strings.join([quote, inner]), found))


def _alternatives(parts: Iterable[str]) -> str:
    """Return the pattern of parts of words, the longest first."""
    ordered = sorted(parts, key=len, reverse=True)
    return "|".join(re.escape(part).replace("'", _APOSTROPHE) for part in ordered)


class _Expansions:
    """Expansions by contraction, as written, with a capital, and in capitals."""

    def __init__(self, table: Mapping[str, str]):
        self._number = max(1, len(table))
        self._keys = StringTable(list(table) or [""])
        values = list(table.values()) or [""]
        capital = [value[:1].upper() + value[1:] for value in values]
        self._values = constant([*values, *capital, *(value.upper() for value in values)])

    def find(self, words: tf.Tensor, style: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the expansions of `words` in a style (0 as written, 1, 2), and which words have one."""
        place = self._keys.find(lower(tf.strings.regex_replace(words, _APOSTROPHE, "'")))
        known = (place >= 0) & (words != "")
        return tf.gather(self._values, tf.maximum(place, 0) + style * self._number), known


def _checked(table: Any) -> dict[str, str]:
    """Return a table with keys in small letters and with `'`, or raise an error."""
    if not isinstance(table, Mapping) or not all(isinstance(part, str) for item in table.items() for part in item):
        raise TypeError(
            f"table must map contractions to expansions, such as {{\"don't\": 'do not'}}, but is {table!r}."
        )
    if not table:
        raise ValueError("table is empty. Give at least one contraction, or None for the English ones.")
    found: dict[str, str] = {}
    for key, value in table.items():
        plain = re.sub(_APOSTROPHE, "'", key).lower()
        # Marks, such as vowel signs, are characters of a word as letters are.
        shape = "".join("a" if unicodedata.category(each)[0] in "LMN" else each for each in plain)
        if not re.fullmatch(r"(\*|'?a+)('?a+)*|'?a+('a+)*'?\*", shape) or plain == "*" or not value.strip("* "):
            raise ValueError(
                f"table: {key!r} -> {value!r} is not a contraction and its expansion. Expected a word of letters with "
                'apostrophes before or in it, or its end or beginning with an asterisk, such as "*n\'t" or "c\'*", and '
                "a text."
            )
        begins, ends = plain.startswith("*") != value.startswith("*"), plain.endswith("*") > value.endswith("*")
        if begins or ends or ("*" in plain and value.count("*") > 1):
            raise ValueError(
                f"table: {key!r} -> {value!r}: the contraction and the expansion must both begin or both end with "
                "one asterisk, which stands for the rest of a word, or have none there."
            )
        if plain in found:
            raise ValueError(f"table: the contraction {plain!r} is there twice, the second time as {key!r}.")
        found[plain] = value
    return found
