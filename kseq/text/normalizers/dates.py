"""Replacement of dates by a placeholder or by words."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Set
from typing import Any, Literal, get_args

import keras
import tensorflow as tf

from kseq.text.language_packages import language_package
from kseq.text.normalization import Normalizer
from kseq.text.normalizers.numbers import check_placeholder
from kseq.text.replacements import SPACED_WORD, UNSPACED_WORD, StringTable, constant, literal, replace_matches

Order = Literal["DMY", "MDY"]
ENGLISH_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
    *("Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sep", "Sept", "Oct", "Nov", "Dec"),
)
_NUMBERS = dict(zip(ENGLISH_MONTHS, [*range(1, 13), 1, 2, 3, 4, 6, 7, 8, 9, 9, 10, 11, 12], strict=True))
# Two digits come first: the first alternative that matches counts.
_DAY, _MONTH, _YEAR = "([12][0-9]|3[01]|0?[1-9])", "(1[0-2]|0?[1-9])", "([0-9]{4})"
_SPACE = r"[ \x{A0}]+"
_COMMA = rf"(?:,?{_SPACE}|,)"  # before a year
_ORDINAL = "(?:st|nd|rd|th|er|\u00ba)"
_REST = rf"(?:[.,:/\-]?{SPACED_WORD}+)*"  # what touches a date, so that it is none
_WORDS = ("may", "march")  # months which are also other words
# Days that their month does not have, in patterns of dates: number of days, months, names of months.
_SHORT = (("3[01]", "0?2", "feb(?:ruary)?"), ("31", "0?[469]|11", "apr(?:il)?|june?|sept?|september|nov(?:ember)?"))
_NO_MULTIPLE = "[02468][1235679]|[13579][01345789]"  # two digits that are no multiple of four
_COMMON_YEAR = f"(?:[0-9]{{2}}(?:{_NO_MULTIPLE})|(?:{_NO_MULTIPLE})00)"
_TIME = r"\A([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9]{2}(?:[0-9]{2}(?:[0-9]{2})?)?Z?)\z"
_IDEOGRAPHS = rf"{_YEAR}\x{{5E74}}{_MONTH}\x{{6708}}{_DAY}\x{{65E5}}"
_FIRST_YEAR, _LAST_YEAR = 1000, 2999


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplaceDates(Normalizer):
    r"""Writes a placeholder for each date.

    Dates are "2019-05-03" and "2019/05/03"; "3.5.2019", "3/5/2019" and "3-5-2019", day or month first, with slashes
    also with a year of two digits; "2019\u5e745\u67083\u65e5"; and with names of months "3 May 2019", "3rd of May",
    "3. Mai 2019", "1er mai", "May 3, 2019", "May 3rd" and "May 2019", whatever their case. But "may" and "march" in
    small letters are usually other words ("you may 3 times"): they need a year, "of", or an ending such as "rd".

    Further letters or digits must not touch a date ("192.3.5.2019"), except letters of scripts that are written without
    spaces, such as Chinese, Japanese and Thai, and a time of day: "2019-05-03T10:00" becomes "<date> 10:00". The parts
    are in the digits 0 to 9. A day that its month does not have, such as "31/02/2019" or "29.2.2019", is no date; with
    names of months this is known of the English ones.

    Args:
        months: The names of months, abbreviations without their stop among them. The default are the English ones.
            A set is sorted.
        placeholder: The string for each date.

    Call arguments are those of `Normalizer`.

    Raises:
        ValueError: If `months` are not strings that begin with a letter, or `placeholder` is not a string.

    Example:
        >>> ReplaceDates()("From 2019-05-03 to May 5th, 2020").numpy()
        b'From <date> to <date>'
    """

    months: Iterable[str] = ENGLISH_MONTHS
    placeholder: str = "<date>"

    def __post_init__(self) -> None:
        check_placeholder(self.placeholder)
        given = self.months
        months = () if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
        if not months or not all(isinstance(each, str) and each[:1].isalpha() for each in months):
            raise ValueError(f"months must be a list of names, such as ['January', 'Jan'], but is {given!r}.")
        object.__setattr__(self, "months", tuple(sorted(months)) if isinstance(given, Set) else months)

    def normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text`, valid UTF-8 of any shape, with placeholders for dates."""
        kinds = _kinds(self.months)
        pattern = f"(?i:{'|'.join(pattern for patterns in kinds.values() for pattern in patterns)})"

        def replaced(tokens: tf.Tensor, adjacent: tf.Tensor) -> tf.Tensor:
            days, times = _apart(tokens)
            is_date = tf.strings.regex_full_match(days, pattern) & _is_possible(days)
            return tf.where(is_date, tf.strings.join([tf.constant(self.placeholder), times]), tokens)

        return replace_matches(text, _token(self.months), replaced)


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True, kw_only=True)
class DatesToWords(Normalizer):
    """Writes dates in English words: "2019-05-03" becomes "May third, twenty nineteen".

    Dates are those that `ReplaceDates` finds with English names of months, with a year of four digits from 1000 to 2999
    or none. The words of days and years are those of num2words: "1805" is "eighteen oh-five".

    Args:
        order: The order of "3/5/2019", "3.5.2019" and "3-5-2019": "MDY" (default), month first, or "DMY". If the order
            gives no date, as in "25/5/2019", it is the other one.

    Call arguments are those of `Normalizer`.

    Raises:
        ImportError: If num2words is not installed. An exported model does without it.
        ValueError: If `order` is not one of those above.

    Example:
        >>> DatesToWords()("Until 12/31/1999 or 3 May").numpy()
        b'Until December thirty-first, nineteen ninety-nine or May third'
    """

    order: Order = "MDY"

    def __post_init__(self) -> None:
        language_package("num2words", "DatesToWords")
        if self.order not in get_args(Order):
            raise ValueError(f"order must be one of {get_args(Order)}, but is {self.order!r}.")

    def normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text`, valid UTF-8 of any shape, with words for dates."""
        return replace_matches(text, _token(ENGLISH_MONTHS), lambda tokens, _: _written(tokens, self.order))


def _apart(tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the dates of `tokens`, and times of the day that follow them, after a space, or empty strings."""
    has_time = tf.strings.regex_full_match(tokens, _TIME)
    times = tf.where(has_time, tf.strings.regex_replace(tokens, _TIME, r" \2"), "")
    return tf.strings.regex_replace(tokens, _TIME, r"\1"), times


def _is_possible(tokens: tf.Tensor) -> tf.Tensor:
    """Return which of `tokens`, if they are dates, have a day that its month has."""
    mark, end = r"[./\-]", f"(?:{_ORDINAL}|\\.)?"
    patterns = []
    for day, month, name in _SHORT:
        patterns += [rf"(?:(?:{day}){mark}(?:{month})|(?:{month}){mark}(?:{day})){mark}[0-9]+"]
        patterns += [rf"[0-9]{{4}}[^0-9](?:{month})[^0-9](?:{day})(?:[^0-9].*)?"]
        patterns += [rf"(?:{day}){end}(?:{_SPACE}of)?{_SPACE}(?:{name})(?:[^a-z].*)?"]
        patterns += [rf"(?:{name})\.?{_SPACE}(?:{day})(?:[^0-9].*)?"]
    february = _SHORT[0][2]
    patterns += [rf"(?:29{mark}0?2|0?2{mark}29){mark}{_COMMON_YEAR}"]
    patterns += [rf"{_COMMON_YEAR}[^0-9]0?2[^0-9]29(?:[^0-9].*)?"]
    patterns += [rf"29{end}(?:{_SPACE}of)?{_SPACE}(?:{february})\.?{_COMMA}{_COMMON_YEAR}"]
    patterns += [rf"(?:{february})\.?{_SPACE}29{end}{_COMMA}{_COMMON_YEAR}"]
    return ~tf.strings.regex_full_match(tokens, f"(?i:{'|'.join(patterns)})")


def _token(months: Iterable[str]) -> str:
    """Return the pattern of dates with what touches them, and of other words and numbers."""
    kinds = _kinds(months)
    written = [*itertools.chain(*(patterns for kind, patterns in kinds.items() if "name" in kind)), _IDEOGRAPHS]
    dates = "|".join(f"{pattern}{_REST}" for pattern in written)
    return rf"(?i:{dates})|{SPACED_WORD}+(?:[./\-]{SPACED_WORD}+)*|{UNSPACED_WORD}+"


@functools.lru_cache
def _kinds(months: Iterable[str]) -> dict[str, list[str]]:
    """Return the patterns of whole dates, with groups for their parts, by the order of these."""
    names = "|".join(map(literal, sorted(months, key=len, reverse=True)))
    clear = "|".join(_clear(each) for each in sorted(months, key=len, reverse=True))
    name, clear, day = rf"({names})\.?", rf"({clear})\.?", rf"{_DAY}(?:{_ORDINAL}|\.)?"
    of, year, maybe_year = f"{_SPACE}of{_SPACE}", f"{_COMMA}{_YEAR}", f"(?:{_COMMA}{_YEAR})?"
    # The patterns with a clear name come last: in "3 march 2019" they match "3 Mar", which "ch" touches.
    return {
        "day name year": [
            rf"{day}{of}{name}{maybe_year}",
            rf"{_DAY}{_ORDINAL}{_SPACE}{name}{maybe_year}",
            rf"{day}{_SPACE}{name}{year}",
            rf"{day}{_SPACE}{clear}{maybe_year}",
        ],
        "name day year": [
            rf"{name}{_SPACE}{_DAY}{_ORDINAL}{maybe_year}",
            rf"{name}{_SPACE}{_DAY}{year}",
            rf"{clear}{_SPACE}{_DAY}{maybe_year}",
        ],
        "name year": [rf"{name}{_COMMA}{_YEAR}"],
        "year month day": [
            f"{_YEAR}-{_MONTH}-{_DAY}",
            f"{_YEAR}/{_MONTH}/{_DAY}",
            _IDEOGRAPHS,
        ],
        "day month year": _numeric(_DAY, _MONTH),
        "month day year": _numeric(_MONTH, _DAY),
    }


def _clear(name: str) -> str:
    """Return the pattern of a month's name, in any case, but with a capital if it is another word in small letters."""
    if name.lower() not in _WORDS:
        return literal(name)
    return f"(?-i:{literal(name[0].upper())}){literal(name[1:])}"


def _numeric(first: str, second: str) -> list[str]:
    whole = [f"{first}{separator}{second}{separator}{_YEAR}" for separator in (r"\.", "/", "-")]
    return [*whole, f"{first}/{second}/([0-9]{{2}})"]


def _written(tokens: tf.Tensor, order: Order) -> tf.Tensor:
    """Return the words of those `tokens`, string `(tokens,)`, that are dates."""
    kinds = _kinds(ENGLISH_MONTHS)
    first = "day month year" if order == "DMY" else "month day year"
    given, (parts, times) = tokens, _apart(tokens)
    parts = tf.where(_is_possible(parts), parts, "")
    for kind in [*(each for each in kinds if "month" not in each), "year month day", first, *kinds]:
        places = {part.replace("name", "month"): rf"\{1 + place}" for place, part in enumerate(kind.split())}
        rewrite = "|".join(["", *(places.get(part, "") for part in ("year", "month", "day"))])
        for pattern in kinds[kind]:  # what is rewritten begins with "|", so that no other pattern matches it
            parts = tf.strings.regex_replace(parts, rf"\A(?i:{pattern})\z", rewrite)
    is_date = tf.strings.regex_full_match(parts, r"\|([12][0-9]{3})?\|[^|]+\|[0-9]*")
    fields = tf.reshape(tf.strings.split(tf.where(is_date, parts, "|2000|1|1"), "|").flat_values, [-1, 4])
    months, days, years, names = _words()
    month = names.find(tf.strings.lower(fields[:, 2]))
    day, year = (tf.strings.regex_replace(fields[:, part], r"\A0*\z|\A0+", "") for part in (3, 1))
    day_words = tf.gather(days, tf.strings.to_number(tf.strings.join([tf.constant("0"), day]), tf.int32))
    number = tf.strings.to_number(tf.where(year == "", str(_FIRST_YEAR), year), tf.int32)
    year_words = tf.where(year == "", "", tf.gather(years, number - _FIRST_YEAR))
    space = tf.where(day == "", "", " ")
    joint = tf.where(year == "", "", tf.where(day == "", " ", ", "))
    words = tf.strings.join([tf.gather(months, tf.maximum(month, 0)), space, day_words, joint, year_words])
    return tf.where(is_date & (month >= 0), tf.strings.join([words, times]), given)


@functools.cache
def _words() -> tuple[Any, Any, Any, StringTable]:
    """Return the names of the spellings of months, the words of days and years, and the spellings' table."""
    words = language_package("num2words", "DatesToWords").num2words
    spellings = {name.lower(): number for name, number in _NUMBERS.items()}
    spellings |= {f"{zero}{number}": number for number in range(1, 13) for zero in ("", "0")}
    months = [ENGLISH_MONTHS[number - 1] for number in spellings.values()]
    days = ["", *(words(number, to="ordinal") for number in range(1, 32))]
    years = [words(number, to="year") for number in range(_FIRST_YEAR, _LAST_YEAR + 1)]
    return constant(months), constant(days), constant(years), StringTable(list(spellings))
