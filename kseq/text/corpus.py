"""Conversion of lists, iterables and datasets of texts to batches of strings."""

import itertools
import os
import re
import reprlib
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from kseq.text.files import text_lines

_BATCH_SIZE = 1024  # texts; bounds the memory for counting tokens, however large the corpus


def as_batch(text: Any) -> tf.Tensor:
    """Return `text` as a string tensor `(batch,)`.

    Raises:
        TypeError: If it does not contain strings.
        ValueError: If it is not of rank 1.
    """
    batch = as_strings(text, "(batch,)")
    if batch.shape.rank not in (None, 1):
        raise ValueError(
            f"Expected text of shape (batch,), got shape {tuple(batch.shape)}. "
            "Put a single text into a list, tokenizer([text]); reshape several dimensions to one."
        )
    return batch


def as_strings(text: Any, shape: str = "of any shape") -> tf.Tensor:
    """Return `text` as a string tensor of any shape.

    Args:
        text: A str, bytes, lists or arrays of them, or a tensor.
        shape: The shape that is expected, for the error.

    Raises:
        TypeError: If it does not contain strings.
    """
    try:
        return tf.convert_to_tensor(text, tf.string)
    except (TypeError, ValueError) as error:
        _refuse_surrogates(text)
        expected = f"of dtype string and shape {shape}" if shape.startswith("(") else f"of dtype string, {shape}"
        raise TypeError(f"Expected text {expected}, got {reprlib.repr(text)}: {error}") from error


def _refuse_surrogates(texts: Any) -> None:
    """Raise TypeError if a text has half of a pair of UTF-16 surrogates, which UTF-8 cannot write."""
    for place, text in enumerate(texts) if isinstance(texts, list | tuple) else ():
        if isinstance(text, str) and re.search("[\ud800-\udfff]", text):
            raise TypeError(
                f"Text {place} is {reprlib.repr(text)}, which has a lone surrogate: no character, and UTF-8 cannot "
                'write it. Replace it, such as by text.encode("utf-8", "replace").'
            )


def text_batches(texts: Any) -> Iterator[tf.Tensor]:
    """Yield the texts of a list, an array, a tensor, any iterable of str or bytes, or a dataset, as `(batch,)`.

    A path (`pathlib.Path`), alone or among the texts, stands for the lines of that file, which may be gzipped.

    Raises:
        FileNotFoundError: If there is no file at a path.
        TypeError: If `texts` is a single string, not iterable, or a dataset of other elements than strings.
    """
    if isinstance(texts, tf.data.Dataset):
        yield from _dataset_batches(texts)
        return
    if isinstance(texts, os.PathLike):
        texts = [texts]
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
        raise TypeError(
            f"Expected a list of texts, an array, an iterable or a tf.data.Dataset, got {reprlib.repr(texts)} of type "
            f"{type(texts).__name__}. Put a single text into a list: adapt([text]). For a file give pathlib.Path(name)."
        )
    iterator = _with_lines(texts.numpy() if isinstance(texts, tf.Tensor) else texts)
    while chunk := list(itertools.islice(iterator, _BATCH_SIZE)):
        words = next((item for item in chunk if isinstance(item, list | tuple)), None)
        if words is not None:
            raise TypeError(
                f"Expected texts, each a str or bytes, but one is the {type(words).__name__} {reprlib.repr(words)}. If "
                'it contains the words of a text, join them: adapt([" ".join(words) for words in texts]).'
            )
        yield as_batch(chunk)


def _with_lines(texts: Iterable[Any]) -> Iterator[Any]:
    for text in texts:
        if isinstance(text, os.PathLike):
            yield from text_lines(text)
        else:
            yield text


def _dataset_batches(dataset: tf.data.Dataset) -> Iterator[tf.Tensor]:
    spec = dataset.element_spec
    if not isinstance(spec, tf.TensorSpec) or spec.dtype != tf.string or spec.shape.rank not in (0, 1):
        raise TypeError(
            f"Expected a dataset of strings of shape () or (batch,), got elements {spec}. "
            "Select the text with dataset.map, for example dataset.map(lambda text, label: text)."
        )
    yield from dataset.batch(_BATCH_SIZE) if spec.shape.rank == 0 else dataset
