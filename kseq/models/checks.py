"""What a batch of token ids must be like."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def check_batch(inputs: Any, vocabulary_sizes: Mapping[str, int]) -> None:
    """Check arrays of token ids and their lengths.

    Args:
        inputs: A dict with an int array `NAME` `(batch, time)` and `NAME_lengths` `(batch,)` for each name.
        vocabulary_sizes: Name -> number of token ids.

    Raises:
        ValueError: If an array is missing, empty or of another rank, a length is not between 0 and the number of
            columns, or a token id is outside its vocabulary.
    """
    wanted = [key for name in vocabulary_sizes for key in (name, f"{name}_lengths")]
    if not isinstance(inputs, Mapping) or any(key not in inputs for key in wanted):
        came = sorted(inputs) if isinstance(inputs, Mapping) else f"a {type(inputs).__name__}"
        raise ValueError(f"The inputs must be a dict of {wanted}, but they are {came}.")
    for name, size in vocabulary_sizes.items():
        tokens, lengths = np.asarray(inputs[name]), np.asarray(inputs[f"{name}_lengths"])
        if tokens.ndim != 2 or lengths.shape != tokens.shape[:1]:
            raise ValueError(
                f"{name} must be (batch, time) and {name}_lengths (batch,), but their shapes are {tokens.shape} and "
                f"{lengths.shape}."
            )
        if not len(tokens):
            raise ValueError(f"The batch is empty: {name} has shape {tokens.shape}. Give at least one row.")
        wrong = np.flatnonzero((lengths < 0) | (lengths > tokens.shape[1]))
        if len(wrong):
            raise ValueError(
                f"{name}_lengths[{wrong[0]}] = {lengths[wrong[0]]}, but {name} has {tokens.shape[1]} columns: a length "
                f"is between 0 and {tokens.shape[1]}."
            )
        check_tokens(tokens, size, name)


def check_tokens(tokens: np.ndarray, vocabulary_size: int, name: str) -> None:
    """Raise ValueError if a token id is not in `[0, vocabulary_size)`."""
    outside = (tokens < 0) | (tokens >= vocabulary_size)
    if outside.any():
        place = tuple(int(axis) for axis in np.argwhere(outside)[0])
        raise ValueError(
            f"{name}{list(place)} = {tokens[place]} is not a token id: the vocabulary has ids 0 to "
            f"{vocabulary_size - 1}. Tokenize with the vocabulary that the model was made for, or size the model to it."
        )
