"""Examples of classify and regress, converted to the form of either protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kseq_serving.client import json_arrays
from kseq_serving.client.arrays import encode
from kseq_serving.client.messages import Input

Example = Mapping[str, Any]
"""Features by name: each a str, bytes, int or float, or a list or one-dimensional array of one of these."""

_FIELDS = {bytes: "bytes_list", float: "float_list", int: "int64_list"}


def to_input(examples: Sequence[Example], context: Example | None) -> Any:
    """Convert examples to an Input message.

    Raises:
        ValueError: If a feature has a type that examples do not have.
    """
    message = Input()
    if context is not None:
        _fill(message.example_list_with_context.context, context)
    target = message.example_list if context is None else message.example_list_with_context
    target.SetInParent()
    for example in examples:
        _fill(target.examples.add(), example)
    return message


def to_json(examples: Sequence[Example], context: Example | None) -> dict[str, Any]:
    """Convert examples to the members of a REST body.

    Raises:
        ValueError: If a feature has a type that examples do not have.
    """
    document: dict[str, Any] = {"examples": [_to_json(example) for example in examples]}
    return document if context is None else document | {"context": _to_json(context)}


def _fill(message: Any, example: Example) -> None:
    message.features.SetInParent()
    for name, feature in example.items():
        values = _values(name, feature)
        field = _FIELDS[type(values[0])] if values else "bytes_list"
        getattr(message.features.feature[name], field).value.extend(values)


def _to_json(example: Example) -> dict[str, Any]:
    return {
        name: [
            json_arrays.write_bytes(value) if isinstance(value, bytes) else value for value in _values(name, feature)
        ]
        for name, feature in example.items()
    }


def _values(name: str, feature: Any) -> list[Any]:
    """Return the values of a feature, which are all bytes, all int or all float."""
    given = feature.tolist() if isinstance(feature, np.ndarray | np.generic) else feature
    listed = list(given) if isinstance(given, list | tuple) else [given]
    values = [
        encode(value) if isinstance(value, str) else value.item() if isinstance(value, np.generic) else value
        for value in listed
    ]
    kinds = {type(value) for value in values}
    if len(kinds) > 1 or not kinds <= _FIELDS.keys():
        raise ValueError(
            f"Feature {name!r} takes str, bytes, int or float, or a list of one of these; got {feature!r:.80}."
        )
    return values
