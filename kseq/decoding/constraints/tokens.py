"""Masks and checks of tokens, shared by constraints."""

from collections.abc import Collection, Iterable

import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import LOG_ZERO, Prefix
from kseq.numbers import ids, whole


def one_or_several(name: str, tokens: int | Iterable[int]) -> tuple[int, ...]:
    """Return one token, or several, as a tuple of ints; `name` is the constraint's."""
    several = isinstance(tokens, Iterable) and getattr(tokens, "shape", None) != ()
    return tuple(ids(f"The tokens of {name}", tokens).tolist()) if several else (whole(f"The token of {name}", tokens),)


def is_one_of(tokens: Collection[int], vocabulary_size: int) -> np.ndarray:
    """Return a mask of the vocabulary, bool `(vocabulary,)`, True at `tokens`."""
    is_one = np.zeros(vocabulary_size, "bool")
    is_one[list(tokens)] = True
    return is_one


def only(tokens: Collection[int], log_probabilities: Tensor) -> Tensor:
    """Return `log_probabilities` `(rows, vocabulary)`, `LOG_ZERO` except at `tokens`."""
    allowed = is_one_of(tokens, log_probabilities.shape[-1])
    return ops.where(ops.convert_to_tensor(allowed), log_probabilities, LOG_ZERO)


def just_written(prefix: Prefix, vocabulary_size: int) -> Tensor:
    """Return a mask of the token written last, bool `(rows, vocabulary)`; bos does not count as written."""
    is_last = ops.arange(vocabulary_size, dtype="int32") == prefix.last[:, None]
    return ops.logical_and(is_last, prefix.length > 0)


def check_tokens(name: str, tokens: Iterable[int], vocabulary_size: int) -> None:
    """Raise if a token of the constraint `name` is outside the vocabulary."""
    outside = sorted({token for token in tokens if not 0 <= token < vocabulary_size})
    if outside:
        raise ValueError(
            f"{name} got tokens={outside}, outside the vocabulary of {vocabulary_size} classes. Token ids are between "
            f"0 and {vocabulary_size - 1}."
        )
