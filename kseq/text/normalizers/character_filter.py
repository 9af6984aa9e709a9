"""Removal or separation of punctuation and other kinds of characters."""

import dataclasses
from collections.abc import Iterable, Set
from typing import Literal, get_args

import keras
import tensorflow as tf

from kseq.text.normalization import Normalizer
from kseq.text.replacements import literal

Action = Literal["remove", "space", "isolate"]
# The general categories of Unicode, by the names of RE2.
CATEGORIES = (
    *("C", "Cc", "Cf", "Co", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No"),
    *("P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs"),
)


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FilterCharacters(Normalizer):
    r"""Removes punctuation and symbols, or characters of other kinds, or sets them apart by spaces.

    Args:
        categories: The kinds of characters, as Unicode's general categories: "P" punctuation, "S" symbols, "C" control,
            format and private characters (tabs and line breaks among them), "N" numbers, and finer ones such as "Sc",
            currency.
        action: "remove" (default) leaves the characters out. "space" writes a space for each. "isolate" writes a
            space before and after each.
        keep: Characters that stay as they are, such as `"'-"`.

    Call arguments are those of `Normalizer`.

    Raises:
        ValueError: If an argument is not one of those above.

    Example:
        >>> FilterCharacters(keep="'")("Don't: 5 \u20ac!").numpy()
        b"Don't 5 "
    """

    categories: Iterable[str] = ("P", "S")
    action: Action = "remove"
    keep: str = ""

    def __post_init__(self) -> None:
        given = self.categories
        categories = () if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)
        if not categories or not all(each in CATEGORIES for each in categories):
            raise ValueError(
                f"categories must be a list of Unicode's general categories, such as ['P', 'S'], but is {given!r}. "
                f"There are {', '.join(CATEGORIES)}."
            )
        if self.action not in get_args(Action):
            raise ValueError(f"action must be one of {get_args(Action)}, but is {self.action!r}.")
        if not isinstance(self.keep, str):
            raise ValueError(f"keep must be a string of characters, but is {self.keep!r}.")
        # The order of a set is another one in each process.
        object.__setattr__(self, "categories", tuple(sorted(categories)) if isinstance(given, Set) else categories)

    def normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text`, valid UTF-8 of any shape, without the characters, or with spaces for or around them."""
        keep = literal(self.keep)
        pattern = "|".join(rf"[^\P{{{each}}}{keep}]" for each in self.categories)
        return tf.strings.regex_replace(text, pattern, {"remove": "", "space": " ", "isolate": r" \0 "}[self.action])
