"""Checks of arrays of token ids, characters and tags."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from kseq.ids import check_ids, check_lengths, known_integers
from kseq.tag_schemes import AllowedTransitions


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
        tokens = integer_array(inputs[name], name)
        lengths = integer_array(inputs[f"{name}_lengths"], f"{name}_lengths")
        if tokens.ndim != 2 or lengths.shape != tokens.shape[:1]:
            raise ValueError(
                f"{name} must be (batch, time) and {name}_lengths (batch,), but their shapes are {tokens.shape} and "
                f"{lengths.shape}."
            )
        if not len(tokens):
            raise ValueError(f"The batch is empty: {name} has shape {tokens.shape}. Give at least one row.")
        check_lengths(lengths, tokens.shape[1], f"{name}_lengths", name)
        check_ids(tokens, size, name)


def check_rows(inputs: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """Raise ValueError if the arrays of these names do not have equally many rows."""
    rows = {name: len(inputs[name]) for name in names}
    if len(set(rows.values())) > 1:
        raise ValueError(f"The inputs need equally many rows, but there are {rows}.")


def check_ends(target: np.ndarray, lengths: np.ndarray, bos_id: int, eos_id: int) -> None:
    """Raise ValueError if a target does not begin with `bos_id` and end with `eos_id`.

    Args:
        target: int `(batch, time)`.
        lengths: int `(batch,)`; rows of length 0, which complete batches, and of impossible lengths are not checked.
        bos_id: Id of the begin token.
        eos_id: Id of the end token.
    """
    rows = np.flatnonzero((lengths > 0) & (lengths <= target.shape[1]))
    ends = target[rows, 0], target[rows, lengths[rows] - 1]
    wrong = np.flatnonzero((ends[0] != bos_id) | (ends[1] != eos_id) | (lengths[rows] < 2))
    if len(wrong):
        row = int(rows[wrong[0]])
        refuse_ends(row, target[row, : lengths[row]], bos_id, eos_id, "to train without, Seq2Seq(check_target=False)")


def refuse_ends(index: int, row: np.ndarray, bos_id: int | None, eos_id: int | None, way_out: str) -> NoReturn:
    """Raise the ValueError of a target that does not begin with `bos_id` and end with `eos_id`."""
    shown = str(row.tolist()) if len(row) < 8 else f"[{row[0]}, {row[1]}, ..., {row[-1]}]"
    raise ValueError(
        f"target[{index}] is {shown}, but a target begins with the token {bos_id} (bos) and ends with {eos_id} (eos): "
        "a model trained without them never ends its answers. Make the rows with kseq.training.text_pairs, or with "
        f"[bos_id, *row, eos_id]. If these tokens have other ids, give bos_id and eos_id; {way_out}."
    )


def integer_array(values: Any, name: str) -> np.ndarray:
    """Return ids, labels, tags or lengths as an array of integers, or raise ValueError if they are none."""
    array = known_integers(values, name)
    if array is None:
        raise ValueError(f"{name} is a symbolic tensor, but an array was expected.")
    return array


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
    characters, lengths = (
        integer_array(inputs["characters"], "characters"),
        integer_array(inputs["characters_lengths"], "characters_lengths"),
    )
    if characters.shape[:2] != shape or characters.ndim != 3 or lengths.shape != shape:
        raise ValueError(
            f"characters must be (batch, words, characters) and characters_lengths (batch, words) with (batch, words) "
            f"= {shape}, but their shapes are {characters.shape} and {lengths.shape}."
        )
    check_lengths(lengths, characters.shape[2], "characters_lengths", "characters")
    check_ids(characters, vocabulary_size, "characters")


def check_tags(tags: Any, lengths: np.ndarray, shape: tuple, num_tags: int, ignore_label: int | None = None) -> None:
    """Check the tags of tokens.

    Args:
        tags: int `(batch, time)`; the padding is not checked.
        lengths: int `(batch,)`.
        shape: `(batch, time)` of the tokens.
        num_tags: Number of tags.
        ignore_label: Tag of tokens that do not count, or None.

    Raises:
        ValueError: If the shape differs from that of the tokens, or a token's tag is outside `[0, num_tags)`.
    """
    tags = integer_array(tags, "tags")
    if tags.shape != shape:
        raise ValueError(f"tags has shape {tags.shape}, but source has shape {shape}: each token needs one tag.")
    outside = ((tags < 0) | (tags >= num_tags)) & (np.arange(shape[1]) < lengths[:, None])
    outside &= True if ignore_label is None else tags != ignore_label
    if outside.any():
        place = tuple(int(axis) for axis in np.argwhere(outside)[0])
        raise ValueError(
            f"tags{list(place)} = {tags[place]} is not a tag: the model has tags 0 to {num_tags - 1}. Number the tags "
            f"from 0, or increase the model's num_tags. If {tags[place]} marks tokens that do not count, compile with "
            f"kseq.losses.SequenceCrossEntropy(ignore_label={tags[place]})."
        )


def check_tag_sequences(
    tags: Any, lengths: np.ndarray, allowed: AllowedTransitions, names: Sequence[str], scheme: str | None
) -> None:
    """Raise ValueError if a row's tags are a sequence that a scheme does not allow.

    Args:
        tags: int `(batch, time)`, of which the real ones are ids of tags.
        lengths: int `(batch,)`.
        allowed: What the scheme allows.
        names: The names of the tags.
        scheme: The scheme's name.
    """
    tags = integer_array(tags, "tags")
    rows, last = np.arange(len(tags)), np.maximum(lengths - 1, 0)
    real = np.arange(tags.shape[1]) < lengths[:, None]
    safe = np.where(real, tags, 0)
    wrong = np.zeros((len(tags), tags.shape[1] + 1), bool)  # before each token, and after the last one
    if tags.shape[1]:
        wrong[:, 0] = ~allowed.start[safe[:, 0]] & real[:, 0]
        wrong[:, 1:-1] = ~allowed.transitions[safe[:, :-1], safe[:, 1:]] & real[:, 1:]
        wrong[rows, lengths] |= ~allowed.end[safe[rows, last]] & (lengths > 0)
    if wrong.any():
        row, place = (int(axis) for axis in np.argwhere(wrong)[0])
        before = "the start of the row" if place == 0 else repr(names[tags[row, place - 1]])
        after = "the row ends" if place == lengths[row] else f"{names[tags[row, place]]!r} stands"
        raise ValueError(
            f"tags[{row}]: after {before}, {after} at token {place}, which the scheme {scheme} does not allow. Correct "
            "the tags, choose the scheme that they follow, or split long rows between spans."
        )
