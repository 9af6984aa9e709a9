"""Answers to rows of any number and lengths, and their texts."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.models.inputs.model_inputs import is_nested, lengths_of
from kseq.models.inputs.token_checks import integer_array

LARGEST_BATCH = 64  # rows
NO_HYPOTHESIS = -1e29  # decoders give a score below this where there are fewer hypotheses than places


def map_rows(
    function: Callable[[np.ndarray, np.ndarray], list], rows: Sequence[np.ndarray], dtype: str, *, pad: bool = True
) -> list:
    """Return `function`'s answers to all `rows`, computed in batches of few shapes.

    The numbers of rows and steps of a batch are powers of two, so a compiled function meets few shapes. The number of
    steps depends on the row alone, never on its neighbours.

    Args:
        function: Takes `values (size, steps, ...)`, zero in the padding, and `lengths` int32 `(size,)`, 0 for the rows
            that complete the batch; returns an answer for each row.
        rows: Arrays `(time, ...)`.
        dtype: Dtype of `values`.
        pad: Whether the rows are sequences, which may be padded. False: their numbers of steps stay.
    """
    answers: list = [None] * len(rows)
    steps = np.array([_power_of_two(len(row)) if pad else len(row) for row in rows], int)
    for time in np.unique(steps):
        same = np.flatnonzero(steps == time)
        for start in range(0, len(same), LARGEST_BATCH):
            places = same[start : start + LARGEST_BATCH]
            size = _power_of_two(len(places))
            values, lengths = np.zeros((size, time, *rows[places[0]].shape[1:]), dtype), np.zeros(size, "int32")
            for row, place in enumerate(places):
                values[row, : len(rows[place])], lengths[row] = rows[place], len(rows[place])
            for place, answer in zip(places, function(values, lengths), strict=False):
                answers[place] = answer
    return answers


def one_or_many(given: Any, one: type | tuple) -> tuple[list, bool]:
    """Return `given` as a list, and whether it was a single item, an instance of `one`."""
    return ([given], True) if isinstance(given, one) else (list(given), False)


def best_texts(tokenizer: Any, tokens: Any, scores: Any, n_best: bool, copied: Any = None) -> list:
    """Return the best text of each row, or with `n_best` all its texts with their scores, as lists of `(text, score)`.

    Args:
        tokenizer: The tokenizer of the texts.
        tokens: int `(rows, n, time)`, best first.
        scores: float `(rows, n)`; where there is no hypothesis, below -1e29.
        n_best: Whether to return all texts.
        copied: string `(rows, source time)`, the sources' tokens, of a model that copies them; else None.
    """
    tokens = ops.convert_to_numpy(tokens)
    if copied is None:
        texts = tokenizer.detokenize(tokens).numpy()  # (rows, n)
    else:
        from kseq.text import replace_copies  # needs tensorflow, as the tokenizers do

        texts = replace_copies(tokenizer, tokens, copied).numpy()
    decoded = [[text.decode("utf-8", "replace") for text in row] for row in texts]
    if not n_best:
        return [row[0] for row in decoded]
    numbers = ops.convert_to_numpy(scores).tolist()
    pairs = [zip(row, of_row, strict=True) for row, of_row in zip(decoded, numbers, strict=True)]
    return [[(text, score) for text, score in row if not score <= NO_HYPOTHESIS] for row in pairs]


def check_n_best(n_best: Any, strategy: str) -> None:
    """Raise ValueError unless `n_best` is a bool; `strategy` is an example of one that finds three texts."""
    if not isinstance(n_best, bool | np.bool_):
        raise ValueError(
            f"n_best={n_best!r} must be True or False: whether to return all texts that the strategy finds. Their "
            f"number is the strategy's: strategy={strategy}, n_best=True."
        )


def tokenizer_of(model: Any, name: str, method: str) -> Any:
    """Return the model's tokenizer called `name`.

    Raises:
        ValueError: If it has none.
    """
    if (tokenizer := getattr(model, name, None)) is None:
        raise ValueError(
            f"{method} needs a {name}, but this {type(model).__name__} has none. Create the model with {name}=..., or "
            f"set model.{name} = ... to the tokenizer that the model was trained with."
        )
    return tokenizer


def rows_of_ids(model: Any, texts: Any, method: str) -> tuple[list[np.ndarray], bool]:
    """Return the ids of each text, int `(time,)`, and whether they were texts.

    Args:
        model: Has `pad_id`, and `tokenizer`, or None in its place.
        texts: Texts, or a single one; or rows of ids: a list, a RaggedTensor, or an array `(batch, time)`, whose rows
            end before their trailing `pad_id`, as in `fit`.
        method: Name of the model's method, for errors.

    Raises:
        ValueError: If there are texts and no tokenizer, or a row is not of integers, or no row.
    """
    if getattr(texts, "ndim", 0) == 2 and not is_nested(texts):
        array = integer_array(texts, "rows of ids")
        lengths = lengths_of(array, "ids", {"ids": model.pad_id})
        return [row[:length] for row, length in zip(array, lengths, strict=True)], False
    texts = one_or_many(texts.to_list() if hasattr(texts, "to_list") else texts, (str, bytes))[0]
    of_texts = any(isinstance(text, str | bytes) for text in texts)
    if of_texts:
        texts = tokenizer_of(model, "tokenizer", method).tokenize(texts).to_list()
    rows = [integer_array(row, f"row {index}") for index, row in enumerate(texts)]
    for index, row in enumerate(rows):
        if row.ndim != 1:
            raise ValueError(
                f"Row {index} of {method}'s ids has shape {row.shape}, but a text is a list of ids, (time,). A single "
                "one is a list of one row: [[...]]."
            )
    return rows, of_texts


def ids_of_words(tokenizer: Any, words: Sequence[str]) -> np.ndarray:
    """Return the ids of words, int32 `(words,)`.

    Raises:
        ValueError: If a word is not one token of the tokenizer.
    """
    ids = tokenizer.tokenize(words)
    counts = ids.row_lengths().numpy()
    if (counts != 1).any():
        place = int(np.argmax(counts != 1))
        raise ValueError(
            f"The word {words[place]!r} is {counts[place]} tokens of the source tokenizer, but each word needs one "
            "tag. Give words that the tokenizer does not split, or whole texts."
        )
    return ids.flat_values.numpy()


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


def loaded_parts(config: dict[str, Any], names: Sequence[str], custom_objects: dict[str, Any] | None) -> dict[str, Any]:
    """Return the parts of a saved model by name; None for those that an older file lacks.

    Args:
        config: The model's configuration.
        names: Names of layers and tokenizers in it.
        custom_objects: As in Keras.
    """
    if any(name.endswith("tokenizer") and config.get(name) is not None for name in names):
        import kseq.text  # noqa: F401  (registers the tokenizers' classes; it needs tensorflow)
    return {
        name: keras.saving.deserialize_keras_object(config.get(name), custom_objects=custom_objects) for name in names
    }
