"""Answers of a model of rows to texts, which do not depend on the other texts."""

from typing import Any

import numpy as np
from keras import ops

from kseq.models.classifier_checks import refuse_empty
from kseq.models.inputs.text_batches import map_rows


def answers_to_texts(model: Any, texts: list, method: str) -> list[dict[str, np.ndarray]]:
    """Return the model's answer to each text by name.

    Args:
        model: A model with `reads`, `row_task` and tokenizers, as `kseq.models.SequenceClassifier` has them.
        texts: The texts.
        method: Name of the model's method, for errors.

    Raises:
        ValueError: If the model has no tokenizer, or a text has no tokens.
    """
    if not texts:
        return []
    inputs = model.reads.of_texts(model, texts, method)
    refuse_empty(inputs, texts)
    counts, width = inputs.pop("source_lengths"), inputs["source"].shape[1]
    # Tables of all tokens: `map_rows` pads one array, the places of a row's tokens in them.
    tables = {name: of.reshape(-1, *of.shape[2:]) for name, of in inputs.items()}

    def answer(places: np.ndarray, lengths: np.ndarray) -> list:
        batch = {name: table[places] for name, table in tables.items()}
        logits = model({**batch, "source_lengths": lengths}, training=False)
        named = {name: ops.convert_to_numpy(of) for name, of in model.row_task.answer(logits).items()}
        return [{name: of[row] for name, of in named.items()} for row in range(len(places))]

    rows = [np.arange(row * width, row * width + count) for row, count in enumerate(counts)]
    return map_rows(answer, rows, "int32")
