"""Checks of a model's own `serving`, and of the answers of its function."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from kseq.models.export_contract import Serving


def checked_serving(serving: Any, model: Any) -> Serving:
    """Return what `model.serving(options)` returned, with an `answer` whose result is checked when it is traced.

    Raises:
        TypeError: If it is no `Serving`. The `answer` raises TypeError if its result is no dict of tensors by name, and
            ValueError if their first axis is not that of the batch.
    """
    method = f"{type(model).__name__}.serving"
    if not isinstance(serving, Serving):
        raise TypeError(
            f"{method}(options) returned a {type(serving).__name__}, but must return a kseq.models.Serving: "
            "Serving(inputs, answer), where answer is a function of the inputs by name."
        )

    def answer(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        outputs = serving.answer(inputs)
        _check_outputs(outputs, next(iter(inputs.values())).shape[0], f"The answer of {method}")
        return outputs

    return dataclasses.replace(serving, answer=answer)


def _check_outputs(outputs: Any, batch: int | None, subject: str) -> None:
    expected = "a dict of tensors (batch, ...) by name"
    if not isinstance(outputs, Mapping):
        raise TypeError(f"{subject} is a {type(outputs).__name__}, but it must be {expected}.")
    if not outputs:
        raise ValueError(f"{subject} is an empty dict, but it must be {expected}.")
    for name, value in outputs.items():
        if not isinstance(name, str):
            raise TypeError(f"{subject} has the name {name!r}, but it must be {expected}, and names are texts.")
        if not isinstance(value, tf.Tensor):
            raise TypeError(f"{subject} has a {type(value).__name__} as {name!r}, but it must be {expected}.")
        # A fixed number of rows cannot be that of the batch, which is not known when the graph is made.
        if value.shape.rank == 0 or (value.shape.rank and value.shape[0] not in (None, batch)):
            raise ValueError(
                f"{subject} has {name!r} of shape {tuple(value.shape)}, but it must be {expected}: the first axis is "
                "that of the rows of the request."
            )
