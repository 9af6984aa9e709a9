"""The contract of normalizers, and normalisation of Unicode, case and white space, in the graph."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, Literal, Self, get_args

import keras
import tensorflow as tf

from kseq.numbers import read_numbers
from kseq.text.copies import custom_objects, rebuilt
from kseq.text.corpus import as_batch, as_strings
from kseq.text.text_ops import text_ops

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
Case = Literal["keep", "lower", "fold"]

# White space according to Python's str.isspace; RE2's own \s is ASCII only.
WHITESPACE = r"[\p{Z}\t-\r\x1c-\x1f\x{85}]"


@dataclasses.dataclass(frozen=True)
class Normalizer(abc.ABC):
    """The contract of normalizers: functions of texts in the graph, which a `Tokenizer` takes as its `normalizer`.

    A subclass is a frozen dataclass, registered with `keras.saving.register_keras_serializable`, and defines
    `normalize`. `kseq.text.NormalizerSequence` joins several. A normalizer holds no tables of TensorFlow, so it works
    in `tf.data` and in exported models without being tracked.

    Call arguments:
        text: string, any shape, dense or ragged; also a str, bytes, or lists of them. Bytes that are not UTF-8 become
            U+FFFD first, as in Python's `bytes.decode("utf-8", "replace")`.

    Returns:
        string, the shape of `text`.

    Raises:
        TypeError: In a call, if `text` does not contain strings.
    """

    def __call__(self, text: Any) -> tf.Tensor:
        """Return `text`, string of any shape, normalised."""
        if isinstance(text, tf.RaggedTensor):
            return text.with_flat_values(self(text.flat_values))
        return self.normalize(replace_invalid_utf8(as_strings(text)))

    @abc.abstractmethod
    def normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text`, valid UTF-8 of any shape, normalised, in the same shape."""

    def __reduce__(self) -> tuple:
        """Pickle and copy the configuration; constants of the graph are made anew."""
        return rebuilt, (type(self), self.get_config(), custom_objects(self.parts))

    @property
    def parts(self) -> list[Any]:
        """This normalizer, and those that it consists of."""
        return [self]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that `config` describes."""
        return cls(**config)


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True, kw_only=True)
class TextNormalizer(Normalizer):
    r"""Maps different spellings of a text to one: `collapse(normalize(change_case(normalize(repair(text)))))`.

    Bytes that are not UTF-8 become U+FFFD, as in Python's `bytes.decode("utf-8", "replace")`; nothing raises.
    Normalisation runs before and after the change of case, since the change can denormalise a text.

    Args:
        form: Unicode normalisation form, or None for none. NFKC (default) also maps ligatures, full-width letters,
            superscripts and the like to plain letters; NFC keeps them. NFD and NFKD separate combining marks.
        case: "keep" (default) leaves the case. "lower" is Unicode's full lower-casing, for texts that a model writes (a
            Greek sigma takes its final form at a word's end, `"ß"` stays). "fold" is Unicode's NFKC_Casefold, for texts
            that are only compared: there is one sigma, `"ß"` becomes `"ss"`, and invisible characters such as the soft
            hyphen and the zero-width joiner are removed, as are compatibility forms, whatever `form` is.
        collapse_whitespace: Whether to replace every run of white space by one space. White space is that of Python's
            `str.isspace`: also no-break and ideographic spaces, tabs and line breaks.
        strip: Whether to remove white space at both ends.

    Call arguments are those of `Normalizer`.

    Raises:
        ValueError: If `form` or `case` is not one of those above.
        ImportError: In a call, if `form` or `case="fold"` needs tensorflow-text and it cannot be imported.

    Example:
        >>> TextNormalizer(case="lower")(["\ufb01ne\u3000Print "]).numpy()
        array([b'fine print'], dtype=object)

    Reference:
        Unicode Standard Annex 15, Unicode Normalization Forms.
    """

    form: Form | None = "NFKC"
    case: Case = "keep"
    collapse_whitespace: bool = True
    strip: bool = True

    def __post_init__(self) -> None:
        read_numbers(self)
        if self.form is not None and self.form not in get_args(Form):
            raise ValueError(f"form must be one of {get_args(Form)} or None (no normalisation), but is {self.form!r}.")
        if self.case not in get_args(Case):
            raise ValueError(f"case must be one of {get_args(Case)}, but is {self.case!r}.")

    def normalize(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text`, valid UTF-8 of any shape, normalised."""
        text = self._normalize(text)
        if self.case != "keep":
            text = self._normalize(lower(text) if self.case == "lower" else text_ops().case_fold_utf8(text))
        if self.collapse_whitespace:
            text = tf.strings.regex_replace(text, f"{WHITESPACE}+", " ")
        if self.strip:
            # `\A` and `\z`, because `^` and `$` could match at a line break.
            text = tf.strings.regex_replace(text, rf"\A{WHITESPACE}+|{WHITESPACE}+\z", "")
        return text

    def _normalize(self, text: Any) -> Any:
        return text if self.form is None else text_ops().normalize_utf8(text, self.form)


def checked_normalizer(normalizer: Any) -> Any:
    """Return `normalizer`, or raise TypeError if it is neither a function of texts nor None."""
    if normalizer is not None and (isinstance(normalizer, type) or not callable(normalizer)):
        raise TypeError(
            f"normalizer must be a function or object such as TextNormalizer(case='lower'), but is {normalizer!r}."
        )
    return normalizer


def normalized(text: Any, normalizer: Callable[[Any], tf.Tensor] | None) -> tf.Tensor:
    """Return `text`, string `(batch,)`, as valid UTF-8 and normalised by `normalizer`, if it is not None."""
    text = replace_invalid_utf8(as_batch(text))
    return text if normalizer is None else normalizer(text)


def replace_invalid_utf8(text: Any) -> tf.Tensor:
    """Return `text`, string of any shape, with U+FFFD for every ill-formed sequence of bytes."""
    return tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")


def lower(text: tf.Tensor) -> tf.Tensor:
    """Return `text`, valid UTF-8 of any shape, in lower case."""
    # tf.strings.lower drops everything after a NUL, so it gets the pieces between NULs.
    pieces = tf.strings.split(tf.reshape(text, [-1]), sep="\0")  # (strings, pieces)
    lower = tf.strings.lower(pieces.flat_values, encoding="utf-8")
    # reduce_join would cut a NUL separator too: append a NUL to each piece, and remove the last one.
    joined = tf.strings.reduce_join(pieces.with_flat_values(tf.strings.join([lower, tf.constant("\0")])), axis=-1)
    joined = tf.strings.substr(joined, tf.zeros_like(joined, tf.int32), tf.strings.length(joined) - 1)
    return tf.ensure_shape(tf.reshape(joined, tf.shape(text)), text.shape)
