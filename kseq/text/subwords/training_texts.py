"""Texts on their way to a library that trains a vocabulary: counted, checked, with a progress bar."""

import importlib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from kseq.numbers import LARGEST_ID, whole
from kseq.text.corpus import text_batches
from kseq.text.normalization import checked_normalizer, normalized


class TrainingTexts:
    """An iterator of normalised `str`, for a library that reads texts one by one.

    The libraries call it from C++ and Rust, where an exception is lost or ends the process. It is kept in `error`, and
    `check` raises it.

    Args:
        texts: As in `kseq.text.Tokenizer.adapt`.
        normalizer: As in `kseq.text.Tokenizer`.
        progress: Whether to show a progress bar while texts are read.
    """

    def __init__(self, texts: Any, normalizer: Callable[[Any], tf.Tensor] | None, *, progress: bool):
        self._batches = text_batches(texts)
        self._normalizer = checked_normalizer(normalizer)
        self._bar = keras.utils.Progbar(_number(texts), unit_name="text") if progress else None
        self._filled = False
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[str]:
        count = 0
        try:
            for batch in self._batches:
                for text in normalized(batch, self._normalizer).numpy().tolist():
                    if text:
                        self._filled = True
                        yield text.decode()
                count += int(tf.size(batch))
                if self._bar is not None:
                    self._bar.update(count, finalize=False)
        except Exception as error:
            self.error = error
            return
        if self._bar is not None:
            self._bar.update(count, finalize=True)

    def check(self) -> None:
        """Raise the error that reading the texts met, or ValueError if all texts were empty."""
        if self.error is not None:
            raise self.error
        if not self._filled:
            raise ValueError(
                "There is nothing to train a vocabulary on: no text, or only empty ones. Give other texts."
            )


def _number(texts: Any) -> int | None:
    return (
        len(texts) if isinstance(texts, list | tuple) and all(isinstance(each, str | bytes) for each in texts) else None
    )


def count(name: str, value: Any) -> int:
    """Return a whole number of at least 0 that the libraries can read.

    Raises:
        ValueError: If it is none.
    """
    number = whole(name, value)
    if not 0 <= number <= LARGEST_ID:
        raise ValueError(f"{name} must be from 0 to {LARGEST_ID}, but is {number}.")
    return number


def check_options(cls: type, options: Mapping[str, Any], own: Collection[str]) -> None:
    """Raise TypeError if a constructor does not have arguments of these names; training comes before it is called.

    Args:
        cls: The class of the constructor.
        options: The arguments by name.
        own: Arguments of the constructor that training gives.
    """
    known = {name for each in cls.__mro__ for name in inspect.signature(each.__init__).parameters if each is not object}
    known -= {"self", "args", "kwargs", *own}
    if unknown := set(options) - known:
        raise TypeError(
            f"{cls.__name__}.train got the arguments {sorted(unknown)}, which neither it nor the constructor takes. "
            f"The constructor takes {sorted(known)}."
        )


def trainer(name: str) -> Any:
    """Return the library `name`, which trains vocabularies.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"Training needs the library {name}, which could not be imported ({error}). Install it with "
            '`pip install "kseq[subwords]"`. A trained tokenizer does without it.',
            name=name,
        ) from error
