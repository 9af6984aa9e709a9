"""The inputs of language models: rows of whole texts, and chunks of texts that continue from batch to batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kseq.ids import check_ids, check_lengths
from kseq.models.inputs.model_inputs import is_nested, lengths_of
from kseq.models.inputs.token_checks import integer_array


def with_targets(data: Any, *, bos_id: int | None, eos_id: int, pad_id: int) -> Any:
    """Return whole texts as rows `source` and `target`; anything else as it is.

    The source is the text after its begin token, the target the text before its end token, so that each token of the
    target is the one that follows the tokens of the source up to its place.

    Args:
        data: Rows of ids without begin and end tokens: a list, a RaggedTensor, an array `(batch, time)` whose rows end
            before their trailing `pad_id`, or a dict of one of these as `source` without `target`, in which an array
            has `lengths`.
        bos_id: Id of the begin token; None: a text's first token is no target.
        eos_id: Id of the end token.
        pad_id: Id of the padding.
    """
    given = data if isinstance(data, Mapping) else {"source": data}
    if "target" in given or "source" not in given:
        return data
    rows = given["source"]
    if hasattr(rows, "nested_row_splits"):
        rows = rows.to_list()
    elif not is_nested(rows):
        if not hasattr(rows, "shape") or len(rows.shape) != 2 or (isinstance(data, Mapping) and "lengths" not in data):
            return data  # refused by the checks of arrays
        array = integer_array(rows, "source")
        lengths = given.get("lengths")
        lengths = lengths_of(array, "source", {"source": pad_id}) if lengths is None else np.asarray(lengths)
        if lengths.shape != array.shape[:1]:
            return data
        check_lengths(integer_array(lengths, "lengths"), array.shape[1], "lengths", "source")
        rows = [row[:length] for row, length in zip(array, lengths, strict=True)]
    rows = [_row(row, f"source[{index}]") for index, row in enumerate(rows)]
    begin = [] if bos_id is None else [bos_id]
    texts = [[*begin, *row, eos_id] for row in rows]
    rest = {name: value for name, value in given.items() if name not in ("source", "lengths")}
    return {"source": [text[:-1] for text in texts], "target": [text[1:] for text in texts], **rest}


def _row(row: Any, name: str) -> list[int]:
    """Return the ids of a text, or raise ValueError if it is no row of ids."""
    array = integer_array(row, name)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, but a text is a list of token ids, (time,).")
    return array.tolist()


def with_names(data: Any) -> Any:
    """Return a dataset whose batches have `lengths` in place of the `source_lengths` of `bucket_by_length`."""
    spec = getattr(data, "element_spec", None)
    if not isinstance(spec, Mapping) or "source_lengths" not in spec or "lengths" in spec:
        return data

    def renamed(batch: Mapping) -> dict:
        rest = {name: value for name, value in batch.items() if name not in ("source_lengths", "target_lengths")}
        return {**rest, "lengths": batch["source_lengths"]}

    answer = data.map(renamed)
    if hasattr(data, "shapes"):
        answer.shapes = data.shapes
    return answer


def check_texts(inputs: Any, vocabulary_size: int) -> None:
    """Check arrays of tokens and of the tokens that follow them.

    Args:
        inputs: A dict with int arrays `source` `(batch, time)` and `lengths` `(batch,)`, and perhaps `target` `(batch,
            time)` and `reset`, bool `(batch,)` or `(batch, time)`.
        vocabulary_size: Number of token ids.

    Raises:
        ValueError: If an array is missing, empty or of wrong shape or dtype, a length is not between 0 and the number
            of columns, or a token id is outside the vocabulary.
    """
    if not isinstance(inputs, Mapping) or any(name not in inputs for name in ("source", "lengths")):
        came = sorted(inputs) if isinstance(inputs, Mapping) else f"a {type(inputs).__name__}"
        raise ValueError(
            f"The inputs must be a dict with source and lengths, and target to train on, but they are {came}. Of "
            "texts, give a list of rows of ids."
        )
    source, lengths = integer_array(inputs["source"], "source"), integer_array(inputs["lengths"], "lengths")
    if source.ndim != 2 or lengths.shape != source.shape[:1]:
        raise ValueError(
            f"source must be (batch, time) and lengths (batch,), but their shapes are {source.shape} and "
            f"{lengths.shape}."
        )
    if not len(source):
        raise ValueError(f"The batch is empty: source has shape {source.shape}. Give at least one row.")
    check_lengths(lengths, source.shape[1], "lengths", "source")
    check_ids(source, vocabulary_size, "source", lengths=lengths)
    if "target" in inputs:
        target = integer_array(inputs["target"], "target")
        if target.shape != source.shape:
            raise ValueError(
                f"target has shape {target.shape}, but source has shape {source.shape}: each token of source has one "
                "that follows it."
            )
        check_ids(target, vocabulary_size, "target", lengths=lengths)
    if "reset" in inputs:
        reset = np.asarray(inputs["reset"])
        if reset.dtype != bool or reset.shape not in (source.shape[:1], source.shape):
            raise ValueError(
                f"reset has dtype {reset.dtype} and shape {reset.shape}, but it must be bool {source.shape[:1]}, for "
                f"each row, or {source.shape}, for each token."
            )
