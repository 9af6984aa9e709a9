"""Inputs of models as users have them: lists of rows, RaggedTensors, and `(x, y)` pairs, made into padded arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kseq.masking import known_shape
from kseq.models.inputs.row_arrays import check_shape


@dataclass(frozen=True)
class InputNames:
    """Names of the entries of a model's inputs.

    Attributes:
        x: The sequences that the model reads.
        y: The sequences that it is trained to write.
        lengths: Name of sequences -> name of their lengths.
        ends: Name of sequences -> number that pads their ends: in an array without lengths, a row ends before the
            trailing ones. None: all values below 0, from the first on. A name that is missing: no value is padding.
        words: Names of sequences whose rows are lists of words, and a word a list of ids.
        aligned: Name of sequences -> name of the sequences of which they have one item for each.
        may_lack_lengths: Whether the model takes sequences without lengths, which then are full.
        per_row: Names of entries with one value, or one array of values, for each row; the model checks their dtype.
        numbers: Names of sequences of numbers, which need not be whole.
        of_targets: Names of entries with numbers for each token of `y` after the first, `(batch, time - 1, numbers)`.
        row_shapes: Name of entries -> shape of a row, with None for an axis of any size. A name that is missing: the
            model checks the shape by itself.
    """

    x: str = "source"
    y: str = "target"
    lengths: Mapping[str, str] = field(default_factory=dict)
    ends: Mapping[str, int | None] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    aligned: Mapping[str, str] = field(default_factory=dict)
    may_lack_lengths: bool = False
    per_row: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    of_targets: tuple[str, ...] = ()
    row_shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)


def as_dict(names: InputNames, x: Any, y: Any) -> tuple[Any, Any]:
    """Return the dict of inputs and what is left of `y`: None, unless the inputs have labels of their own.

    Args:
        names: Names of the inputs.
        x: A dict, or the sequences named `names.x`.
        y: The sequences named `names.y`, or None.
    """
    if isinstance(x, Mapping):
        x = with_lengths(names, x, guess=False)
    elif is_nested(x) or hasattr(x, "shape"):
        x = with_lengths(names, {names.x: x})
    else:
        return x, y
    if y is not None and names.y not in x:
        x = {**x, **with_lengths(names, y if isinstance(y, Mapping) else {names.y: y})}
        y = None
    return padded(names, x), y


def check_spec(names: InputNames, spec: Any, *, with_labels: bool) -> None:
    """Raise ValueError if the batches of a dataset are no dicts, or an entry is missing or has another shape.

    Args:
        names: Names of the inputs; those of a model that declares no lengths are not checked.
        spec: What the dataset's elements have for inputs: a nest of specs with `shape`.
        with_labels: Whether the labels are among the inputs.
    """
    if not names.lengths:
        return
    needed = [names.x, *[names.y] * with_labels]
    if not isinstance(spec, Mapping):
        raise ValueError(
            f"The elements of the dataset are {type(spec).__name__}s, but the model reads dicts with {needed} and "
            f"their lengths. Map them, as dataset.map(lambda x, y: {{{names.x!r}: x, {names.y!r}: y, ...}}), or give "
            "fit lists or arrays, which it makes into dicts by itself."
        )
    if not names.may_lack_lengths:
        needed += [of for name, of in names.lengths.items() if name in spec]
    if missing := [name for name in needed if name not in spec]:
        raise ValueError(f"The batches of the dataset have {sorted(spec)}, but the model also reads {missing}.")
    if getattr(spec[names.x].shape, "rank", None) in (0, 1):
        raise ValueError(
            f"{names.x} has the shape {tuple(spec[names.x].shape)} in the dataset, without a batch axis. Call "
            "dataset.padded_batch(...), or kseq.training.bucket_by_length(dataset, ...)."
        )
    for name, shape in names.row_shapes.items():
        if name in spec and (known := known_shape(spec[name])) is not None:
            check_shape(known, shape, name)


def padded(names: InputNames, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return `inputs` with padded arrays in place of lists and RaggedTensors, and with their lengths if they lack them.

    Raises:
        ValueError: If rows do not fit each other.
    """
    filled = dict(inputs)
    for name, values in inputs.items():
        if not is_nested(values):
            continue
        if name in names.of_targets:
            filled[name] = pad_tables(values, name)
            continue
        if name not in (*names.lengths, names.y, *names.aligned) or name in names.per_row:
            filled[name] = _array(values.to_list() if hasattr(values, "to_list") else values, name)
            continue
        filled[name], lengths = (pad_words if name in names.words else pad_rows)(values, name)
        of_lengths = names.lengths.get(name)
        if of_lengths is not None and of_lengths not in inputs:
            filled[of_lengths] = lengths
        elif of_lengths is not None:
            _check_given(np.asarray(inputs[of_lengths]), lengths, of_lengths, name)
    for name, of in names.aligned.items():
        if name in inputs and is_nested(inputs[name]):
            _check_aligned(names, inputs, filled, name, of)
    for name in names.of_targets:
        if name in inputs and is_nested(inputs[name]):
            _check_of_target(names, inputs[name], filled, name)
    return filled


def check_row_sizes(counts: Sequence[int], wanted: Sequence[int], name: str, of: str) -> None:
    """Raise ValueError if a row of the sequences `name` has fewer or more values than that of the sequences `of`."""
    for row, (count, want) in enumerate(zip(counts, wanted, strict=False)):
        if count != want:
            raise ValueError(
                f"{name}[{row}] has {count} values, but {of}[{row}] has {want}: each value of {of} needs one of {name}."
            )


def with_lengths(names: InputNames, inputs: Mapping[str, Any], *, guess: bool = True) -> dict[str, Any]:
    """Return `inputs` with the lengths of arrays that have none, as `InputNames.ends` says.

    Args:
        names: Names of the inputs.
        inputs: Arrays by name.
        guess: Whether the lengths of ids are told by the padding at their end, which may also be a token.
    """
    filled = dict(inputs)
    for name, values in inputs.items():
        of_lengths = names.lengths.get(name)
        if not guess and (names.ends.get(name) is not None or name in names.words):
            continue
        if of_lengths is not None and of_lengths not in inputs and not is_nested(values):
            filled[of_lengths] = lengths_of(np.asarray(values), name, names.ends)
    return filled


def lengths_of(array: np.ndarray, name: str, ends: Mapping[str, int | None]) -> np.ndarray:
    """Return the lengths of the rows of an array without lengths, int32 `(batch,)`, see `InputNames.ends`."""
    time = array.shape[1] if array.ndim > 1 else 0
    if name not in ends or array.ndim != 2:
        return np.full(array.shape[:1], time, "int32")
    end = ends[name]
    if end is None:
        return np.cumprod(array >= 0, axis=1).sum(axis=1).astype("int32")
    return (time - np.cumprod(array[:, ::-1] == end, axis=1).sum(axis=1)).astype("int32")


def is_nested(values: Any) -> bool:
    """Return whether `values` are a list of rows, a RaggedTensor, or an array of rows of different lengths."""
    if isinstance(values, np.ndarray):
        return values.dtype == object and values.ndim == 1
    return isinstance(values, list) or hasattr(values, "nested_row_splits")


def pad_rows(rows: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of different lengths as an array padded with 0, and their lengths.

    Args:
        rows: A list of rows or a RaggedTensor; a row is a list or array of ids, or an array `(time, features)`.
        name: Name of the rows, for errors.

    Returns:
        `(values, lengths)`: values `(batch, time)` or `(batch, time, features)`; lengths int32 `(batch,)`.
    """
    arrays = [_array(row, f"{name}[{index}]") for index, row in enumerate(_listed(rows))]
    some = [array for array in arrays if array.size or array.ndim > 1]
    shapes = {array.shape[1:] for array in some}
    if len(shapes) > 1 or any(not array.ndim for array in arrays):
        kinds = sorted({array.shape for array in arrays}, key=len)[:4]
        raise ValueError(
            f"{name} is a list of rows of shapes {kinds}, but a row is a list of ids, (time,), or an array (time, "
            "features), and all rows have equally many features. Give one such row for each example; tokenize texts."
        )
    shape = shapes.pop() if shapes else ()
    dtype = np.result_type(*(array.dtype for array in some)) if some else np.dtype("int32")
    lengths = np.array([len(array) for array in arrays], "int32")
    values = np.zeros((len(arrays), lengths.max(initial=0), *shape), dtype)
    for row, array in enumerate(arrays):
        if len(array):
            values[row, : len(array)] = array
    return values, lengths


def pad_words(rows: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return lists of lists of words, a word being a list of ids, as an array padded with 0, and the words' lengths.

    Returns:
        `(values, lengths)`: values `(batch, words, characters)`; lengths int32 `(batch, words)`.
    """
    words = [
        [_array(word, f"{name}[{index}, {place}]") for place, word in enumerate(row)]
        for index, row in enumerate(_listed(rows))
    ]
    flat = [word for row in words for word in row]
    some = [word.dtype for word in flat if word.size]
    shape = len(words), max(map(len, words), default=0), max(map(np.size, flat), default=0)
    values, lengths = np.zeros(shape, np.result_type(*some) if some else "int32"), np.zeros(shape[:2], "int32")
    for index, row in enumerate(words):
        for place, word in enumerate(row):
            values[index, place, : word.size], lengths[index, place] = word.ravel(), word.size
    return values, lengths


def pad_tables(rows: Any, name: str) -> np.ndarray:
    """Return arrays `(time, numbers)` of different sizes as one array `(batch, time, numbers)`, padded with 0."""
    arrays = [_array(row, f"{name}[{index}]") for index, row in enumerate(_listed(rows))]
    shapes = [array.shape for array in arrays]
    if any(len(shape) != 2 for shape in shapes):
        raise ValueError(f"{name} has rows of shapes {sorted({*shapes})[:4]}, but a row is an array (time, numbers).")
    sizes = np.max(np.array(shapes, int).reshape(-1, 2), axis=0, initial=0)
    values = np.zeros((len(arrays), *sizes), np.result_type(*arrays) if arrays else "float32")
    for row, array in enumerate(arrays):
        values[row, : array.shape[0], : array.shape[1]] = array
    return values


def _listed(rows: Any) -> list:
    return rows.to_list() if hasattr(rows, "nested_row_splits") else list(rows)


def _check_given(given: np.ndarray, lengths: np.ndarray, name: str, of: str) -> None:
    """Raise ValueError if a given length is larger than that of its row."""
    if given.shape != lengths.shape or given.dtype.kind not in "iu":
        return  # other checks say so
    longer = np.argwhere(given > lengths)
    if len(longer):
        place = tuple(int(axis) for axis in longer[0])
        raise ValueError(
            f"{name}{list(place)} = {given[place]}, but {of}{list(place)} has {lengths[place]} values. Leave {name} "
            "out: the rows have lengths of their own."
        )


def _check_aligned(names: InputNames, inputs: Mapping[str, Any], filled: Mapping[str, Any], name: str, of: str) -> None:
    """Raise ValueError if a row of nested `name` does not have the length of its row of `of`.

    A row that is padded already may also have the size of the padded row of `of`.
    """
    wanted = np.asarray(filled.get(names.lengths[of], ()))
    counts = np.array([len(row) for row in _listed(inputs[name])], int)
    if wanted.shape != counts.shape or wanted.dtype.kind not in "iu" or np.ndim(filled.get(of, ())) < 2:
        return  # other checks say so
    sizes = [len(row) for row in _listed(inputs[of])] if is_nested(inputs[of]) else filled[of].shape[1]
    check_row_sizes(np.where(counts == sizes, wanted, counts).tolist(), wanted.tolist(), name, of)


def _check_of_target(names: InputNames, rows: Any, filled: Mapping[str, Any], name: str) -> None:
    """Raise ValueError if a row does not have numbers for each token of its target after the first."""
    lengths = np.asarray(filled.get(names.lengths.get(names.y, ""), ()))
    for row, (table, length) in enumerate(zip(_listed(rows), lengths.ravel().tolist(), strict=False)):
        if len(table) != max(length - 1, 0):
            raise ValueError(
                f"{name}[{row}] has {len(table)} rows, but {names.y}[{row}] has {length} tokens: there is a row for "
                "each token after the first."
            )


def _array(row: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(row)
    except ValueError as error:  # numpy's message does not say which row
        raise ValueError(f"{name} is not a row of numbers: {error}") from error
