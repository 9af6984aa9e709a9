"""Checks of arrays of token ids, characters and tags."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def check_batch(inputs: Any, vocabulary_sizes: Mapping[str, int]) -> None:
    """Check arrays of token ids and their lengths.

    Args:
        inputs: A dict with int arrays `NAME` `(batch, time)` and `NAME_lengths` `(batch,)` for each name.
        vocabulary_sizes: Name -> number of token ids.

    Raises:
        ValueError: If an array is missing, empty or of wrong rank, a length is not between 0 and the number of columns,
            or a token id is outside its vocabulary.
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


def check_characters(inputs: Mapping[str, Any], shape: tuple, vocabulary_size: int) -> None:
    """Check the characters of words.

    Args:
        inputs: A dict with int arrays `characters` `(batch, words, characters)` and `characters_lengths` `(batch,
            words)`.
        shape: `(batch, words)`.
        vocabulary_size: Number of character ids.

    Raises:
        ValueError: If an array is missing or of wrong shape, a length does not fit, or an id is out of range.
    """
    if missing := [name for name in ("characters", "characters_lengths") if name not in inputs]:
        raise ValueError(f"The model reads the characters of words, but the inputs {sorted(inputs)} lack {missing}.")
    characters, lengths = np.asarray(inputs["characters"]), np.asarray(inputs["characters_lengths"])
    if characters.shape[:2] != shape or characters.ndim != 3 or lengths.shape != shape:
        raise ValueError(
            f"characters must be (batch, words, characters) and characters_lengths (batch, words) with (batch, words) "
            f"= {shape}, but their shapes are {characters.shape} and {lengths.shape}."
        )
    if ((lengths < 0) | (lengths > characters.shape[2])).any():
        raise ValueError(
            f"characters_lengths are {lengths.min()} to {lengths.max()}, but characters has {characters.shape[2]} "
            f"columns: a length is between 0 and {characters.shape[2]}."
        )
    check_tokens(characters, vocabulary_size, "characters")


def check_tags(tags: Any, lengths: np.ndarray, shape: tuple, num_tags: int) -> None:
    """Check the tags of tokens.

    Args:
        tags: int `(batch, time)`; the padding is not checked.
        lengths: int `(batch,)`.
        shape: `(batch, time)` of the tokens.
        num_tags: Number of tags.

    Raises:
        ValueError: If the shape differs from that of the tokens, or a token's tag is outside `[0, num_tags)`.
    """
    tags = np.asarray(tags)
    if tags.shape != shape:
        raise ValueError(f"tags has shape {tags.shape}, but source has shape {shape}: each token needs one tag.")
    outside = ((tags < 0) | (tags >= num_tags)) & (np.arange(shape[1]) < lengths[:, None])
    if outside.any():
        place = tuple(int(axis) for axis in np.argwhere(outside)[0])
        raise ValueError(
            f"tags{list(place)} = {tags[place]} is not a tag: the model has tags 0 to {num_tags - 1}. Number the tags "
            "from 0, or increase the model's num_tags."
        )


def check_tokens(tokens: np.ndarray, vocabulary_size: int, name: str) -> None:
    """Raise ValueError if a token id is not in `[0, vocabulary_size)`."""
    outside = (tokens < 0) | (tokens >= vocabulary_size)
    if outside.any():
        place = tuple(int(axis) for axis in np.argwhere(outside)[0])
        raise ValueError(
            f"{name}{list(place)} = {tokens[place]} is not a token id: the vocabulary has ids 0 to "
            f"{vocabulary_size - 1}. Tokenize with the model's vocabulary, or create a model of the vocabulary's size."
        )
