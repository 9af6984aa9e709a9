"""Replacement of HTML entities by their characters, and removal of tags."""

import dataclasses
import functools
import html
import html.entities

import keras
import tensorflow as tf

from kseq.numbers import read_numbers
from kseq.text.normalization import Normalizer
from kseq.text.replacements import StringTable, constant, replace_matches

# As in Python's `html.unescape`.
_ENTITY = r"&(?:#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)"
_INLINE = (
    *("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "ins"),
    *("kbd", "label", "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u"),
    *("var", "wbr"),
)
_ATTRIBUTES = r"""(?:[^<>"']|"[^"]*"|'[^']*')*"""
_HIDDEN = (
    r"(?s)<!--.*?-->",
    r"(?is)<script(?:\s[^>]*)?>.*?</script\s*>",
    r"(?is)<style(?:\s[^>]*)?>.*?</style\s*>",
)
_INLINE_TAG = rf"(?i)</?(?:{'|'.join(_INLINE)})(?:[\s/]{_ATTRIBUTES})?>"
_TAG = rf"<[a-zA-Z/!?]{_ATTRIBUTES}>"
_BEYOND = 0x110000  # the first number that is no code point


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True, kw_only=True)
class UnescapeHTML(Normalizer):
    r"""Replaces HTML entities by the characters that they stand for, exactly as Python's `html.unescape`.

    These are all named ones of HTML 5, decimal ("&#233;") and hexadecimal ones ("&#xe9;"), also where the semicolon is
    missing and HTML allows it. "&amp;lt;" becomes "&lt;": what comes out is not read again.

    Args:
        strip_tags: Whether to remove comments, scripts, styles and tags first. Tags inside a line, such as `<b>`, leave
            nothing; others, such as `<p>` and `<br>`, leave a space. A `<` that begins no tag stays.

    Call arguments are those of `Normalizer`.

    Raises:
        ValueError: If `strip_tags` is not a bool.

    Example:
        >>> UnescapeHTML(strip_tags=True)("caf&eacute;<br><b>1</b> &lt; 2").numpy().decode()
        'café 1 < 2'
    """

    strip_tags: bool = False

    def __post_init__(self) -> None:
        read_numbers(self)

    def normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text`, valid UTF-8 of any shape, with characters for entities."""
        if self.strip_tags:
            for pattern in _HIDDEN:
                text = tf.strings.regex_replace(text, pattern, " ")
            text = tf.strings.regex_replace(text, _INLINE_TAG, "")
            text = tf.strings.regex_replace(text, _TAG, " ")
        return replace_matches(text, _ENTITY, lambda entities, _: _characters(entities))


def _characters(entities: tf.Tensor) -> tf.Tensor:
    """Return what `entities`, string `(entities,)`, stand for."""
    names, characters = _named()
    entities = tf.strings.regex_replace(entities, r"\A&", "")
    numeric = tf.strings.regex_full_match(entities, "#.*")
    whole = names.find(entities)
    # Names that may lack the semicolon may be followed by letters; the longest one counts.
    name, rest = (tf.strings.regex_replace(entities, _beginning(), part) for part in (r"\1", r"\2"))
    begins = tf.strings.regex_full_match(entities, _beginning())
    beginning = tf.strings.join([tf.gather(characters, tf.maximum(names.find(name), 0)), rest])
    other = tf.where(begins, beginning, tf.strings.join([tf.constant("&"), entities]))
    named = tf.where(whole >= 0, tf.gather(characters, tf.maximum(whole, 0)), other)
    return tf.where(numeric, _numbered(tf.where(numeric, entities, "#0")), named)


def _numbered(entities: tf.Tensor) -> tf.Tensor:
    """Return the characters of `entities`, string `(entities,)`, such as "#233;" and "#xe9"."""
    digits = tf.strings.lower(tf.strings.regex_replace(entities, r"\A#[xX]?0*([0-9a-fA-F]*);?\z", r"\1"))
    base = tf.where(tf.strings.regex_full_match(entities, "#[xX].*"), 16, 10)
    too_long = tf.strings.length(digits) > 7
    digits = tf.strings.join([tf.constant("0000000"), tf.where(too_long, "", digits)])
    digits = tf.strings.substr(digits, -7, 7)
    codes = tf.reshape(tf.cast(tf.io.decode_raw(digits, tf.uint8, fixed_length=7), tf.int32), [-1, 7])
    values = codes - tf.where(codes >= ord("a"), ord("a") - 10, ord("0"))  # (entities, 7)
    number = tf.zeros_like(base)
    for place in range(7):
        number = number * base + values[:, place]
    number = tf.where(too_long | (number > _BEYOND), _BEYOND, number)
    written = tf.strings.unicode_encode(number[:, None], "UTF-8", errors="replace")
    odd, characters = _odd_numbers()
    place = tf.minimum(tf.searchsorted(odd, number), tf.size(odd) - 1)
    return tf.where(tf.gather(odd, place) == number, tf.gather(characters, place), written)


@functools.cache
def _named() -> tuple[StringTable, tf.Tensor]:
    """Return the names of entities, with their semicolons, and their characters."""
    return StringTable(list(html.entities.html5)), constant(list(html.entities.html5.values()))


@functools.cache
def _beginning() -> str:
    """Return the pattern of a name that may lack its semicolon, and what follows."""
    names = sorted((name for name in html.entities.html5 if not name.endswith(";")), key=len, reverse=True)
    return rf"\A({'|'.join(names)})((?s:.)*)\z"


@functools.cache
def _odd_numbers() -> tuple[tf.Tensor, tf.Tensor]:
    """Return the numbers that do not stand for the code point of that number, in order, and what they stand for."""
    planes = [plane * 0x10000 + last for plane in range(17) for last in (0xFFFE, 0xFFFF)]
    numbers = sorted([*range(0xA0), *range(0xFDD0, 0xFDF0), *planes])
    odd = {number: html.unescape(f"&#{number};") for number in numbers}
    odd = {number: character for number, character in odd.items() if character != chr(number)}
    return constant(list(odd), tf.int32), constant(list(odd.values()))
