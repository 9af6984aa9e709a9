"""Numbers in words."""

import dataclasses
import functools
from typing import Any

import keras
import tensorflow as tf

from kseq.numbers import whole
from kseq.text.language_packages import language_package
from kseq.text.normalization import Normalizer
from kseq.text.normalizers.numbers import replace_numbers
from kseq.text.replacements import constant

_SIGN = r"[-\x{2212}]"
_ENGLISH = rf"{_SIGN}?(?:(?:[0-9]+|[1-9][0-9]{{0,2}}(?:,[0-9]{{3}})+)(?:\.[0-9]+|(?i:st|nd|rd|th))?|\.[0-9]+)"
_GROUPS = 5
LARGEST_ENGLISH = 10 ** (3 * _GROUPS) - 1
LARGEST_TABLE = 99_999


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True, kw_only=True)
class NumbersToWords(Normalizer):
    r"""Writes numbers in words, those of the package num2words: "1,200" becomes "one thousand, two hundred".

    Numbers are found as by `ReplaceNumbers`, but only in the digits 0 to 9. In English they are whole numbers, with
    commas between thousands or without (a number with commas does not begin with 0: "0,123" stays), decimals with a
    point, whose digits are read one by one without zeros at the end ("3.50" is "three point five", and ".5" "zero point
    five"), and ordinals ("21st"). In other languages they are whole numbers without
    separators. Minus signs are read, unless num2words cannot write negative numbers in the language: then these stay as
    they are, and so do larger numbers. The sign of "-0" is left out.

    There are two differences from num2words: "-0.5" is "minus zero point five", where num2words leaves the sign out,
    and no decimal is rounded.

    Args:
        language: A language of num2words by its code, such as "en", "de", "fr", "es", "ru", "ar" or "ja".
        largest: The largest number that is written in words. None: 999,999,999,999,999 in English, the largest allowed;
            in other languages 9,999. They need a table with the words of each number, which takes a second to make and
            may have up to 99,999.

    Call arguments are those of `Normalizer`.

    Raises:
        ImportError: If num2words is not installed. An exported model does without it.
        ValueError: If the language is unknown, `largest` is out of range, or num2words fails at a number up to it.

    Example:
        >>> NumbersToWords()("21st of 1,000, -2.5").numpy()
        b'twenty-first of one thousand, minus two point five'
    """

    language: str = "en"
    largest: int | None = None

    def __post_init__(self) -> None:
        package = language_package("num2words", "NumbersToWords")
        if not isinstance(self.language, str) or self.language not in package.CONVERTER_CLASSES:
            raise ValueError(
                f"num2words has no language {self.language!r}. It has {', '.join(sorted(package.CONVERTER_CLASSES))}."
            )
        most = LARGEST_ENGLISH if self.language == "en" else LARGEST_TABLE
        default = LARGEST_ENGLISH if self.language == "en" else 9_999
        largest = default if self.largest is None else whole("largest", self.largest)
        if not 0 <= largest <= most:
            raise ValueError(f"largest must be from 0 to {most:,} for language={self.language!r}, but is {largest:,}.")
        object.__setattr__(self, "largest", largest)
        if self.language != "en":
            _table(self.language, largest)

    def normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text`, valid UTF-8 of any shape, with words for numbers."""
        largest = int(self.largest or 0)
        if self.language == "en":
            return replace_numbers(text, _ENGLISH, lambda numbers: _english(numbers, largest))
        words, minus = _table(self.language, largest)
        pattern = "[0-9]+" if minus is None else rf"{_SIGN}?[0-9]+"
        return replace_numbers(text, pattern, lambda numbers: _looked_up(numbers, words, minus or ""))


def _english(numbers: tf.Tensor, largest: int) -> tf.Tensor:
    """Return the English words of `numbers`, string `(numbers,)`, such as "-1,234.5" and "21st"."""
    digits, value = _digits(tf.strings.regex_replace(numbers, r"\.[0-9]+\z|[a-zA-Z]+\z|,", ""))
    words = _english_whole(digits, tf.strings.regex_full_match(numbers, ".*[a-zA-Z]"))
    decimals = tf.strings.regex_replace(numbers, r"\A[^.]*\.?", "")
    decimals = tf.strings.regex_replace(decimals, r"0+\z|[a-zA-Z,]", "")
    has_decimals = tf.strings.regex_full_match(numbers, r"[^.]*\.[0-9]*[1-9][0-9]*")
    read = _read_digits(tf.where(has_decimals, decimals, "0"))
    words = tf.where(has_decimals, tf.strings.join([words, tf.constant(" point "), read]), words)
    sign = tf.where((value > 0) | has_decimals, _sign(numbers, "minus "), "")
    return tf.where(value <= largest, tf.strings.join([sign, words]), numbers)


def _english_whole(digits: tf.Tensor, ordinal: tf.Tensor) -> tf.Tensor:
    """Return the words of whole numbers, string `(numbers,)`, each of 15 digits, as cardinals or ordinals."""
    cardinals, ordinals, scales = _english_tables()
    groups = [tf.strings.to_number(tf.strings.substr(digits, 3 * place, 3), tf.int32) for place in range(_GROUPS)]
    words = tf.fill(tf.shape(digits), "")
    for group, scale in zip(groups, scales, strict=True):
        named = tf.strings.join([tf.gather(cardinals, group), tf.constant(scale)])
        if not scale:
            named = tf.where(ordinal, tf.gather(ordinals, group), named)
        last_and_small = tf.constant(not scale) & (group < 100)
        joint = tf.where(words == "", "", tf.where(last_and_small, " and ", ", "))
        words = tf.where(group > 0, tf.strings.join([words, joint, named]), words)
    whole_scale = ordinal & (groups[-1] == 0)
    words = tf.where(words == "", "zero", words)
    return tf.where(whole_scale, tf.strings.join([words, tf.constant("th")]), words)


def _looked_up(numbers: tf.Tensor, words: tf.Tensor, minus: str) -> tf.Tensor:
    """Return the words of whole `numbers`, string `(numbers,)`, from a table."""
    _, value = _digits(numbers)
    last = tf.size(words, tf.int64) - 1
    read = tf.gather(words, tf.minimum(value, last))
    sign = tf.where(value > 0, _sign(numbers, minus), "")
    return tf.where(value <= last, tf.strings.join([sign, read]), numbers)


def _digits(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the last 15 digits of whole `numbers`, with zeros before them, and the value, int64."""
    digits = tf.strings.regex_replace(numbers, rf"\A{_SIGN}?0*", "")
    too_long = tf.strings.length(digits) > 3 * _GROUPS
    padded = tf.strings.join([tf.constant("0" * 3 * _GROUPS), tf.where(too_long, "", digits)])
    padded = tf.strings.substr(padded, -3 * _GROUPS, 3 * _GROUPS)
    value = tf.strings.to_number(padded, tf.int64)
    return padded, tf.where(too_long, tf.constant(LARGEST_ENGLISH + 1, tf.int64), value)


def _sign(numbers: tf.Tensor, minus: str) -> tf.Tensor:
    return tf.where(tf.strings.regex_full_match(numbers, rf"{_SIGN}.*"), minus, "")


def _read_digits(digits: tf.Tensor) -> tf.Tensor:
    """Return the words of the single `digits`, string `(numbers,)`."""
    single = tf.strings.bytes_split(digits)
    names, _, _ = _english_tables()
    names = tf.concat([["zero"], names[1:10]], axis=0)
    read = tf.gather(names, tf.strings.to_number(single.flat_values, tf.int32))
    return tf.strings.reduce_join(single.with_flat_values(read), axis=-1, separator=" ")


@functools.cache
def _english_tables() -> tuple[tf.Tensor, tf.Tensor, list[str]]:
    """Return the cardinals and ordinals of 1 to 999, after an empty one, and the names of the groups' scales."""
    words = language_package("num2words", "NumbersToWords").num2words
    cardinals = ["", *(words(number, lang="en") for number in range(1, 1000))]
    ordinals = ["", *(words(number, lang="en", to="ordinal") for number in range(1, 1000))]
    scales = [words(1000**power, lang="en").removeprefix("one") for power in range(_GROUPS - 1, 0, -1)]
    return constant(cardinals), constant(ordinals), [*scales, ""]


@functools.cache
def _table(language: str, largest: int) -> tuple[tf.Tensor, str | None]:
    """Return the words of the numbers from 0 to `largest`, and the word before negative ones, None if there is none."""
    words = language_package("num2words", "NumbersToWords").num2words
    table = []
    for number in range(largest + 1):
        try:
            table.append(words(number, lang=language))
        except Exception as error:  # of many kinds
            raise ValueError(f"num2words cannot write {number} in the language {language!r}: {error!r}.") from error
    return constant(table), _minus(words, language)


def _minus(words: Any, language: str) -> str | None:
    try:
        one, negative = words(1, lang=language), words(-1, lang=language)
    except Exception:  # of many kinds: the language has no negative numbers
        return None
    return negative.removesuffix(one) if negative.endswith(one) and negative != one else None
