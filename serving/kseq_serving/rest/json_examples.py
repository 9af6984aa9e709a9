"""JSON bodies of classify and regress: examples in requests, results in responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kseq_serving.client.messages import Input
from kseq_serving.errors import InvalidArgumentError
from kseq_serving.rest import json_request
from kseq_serving.rest.json_reader import JsonValue
from kseq_serving.rest.json_writer import INDENT, encode, format_floats, quote, replace_foreign

if TYPE_CHECKING:  # the module imports TensorFlow, but the processes that parse large bodies run this one too
    from kseq_serving.protocol.protos import ClassificationResult, RegressionResult

PIECE = 1000  # examples that are serialised together
_INT64 = (-(2**63), 2**63 - 1)
_UINT64_MAX = 2**64 - 1
# Fields of a feature, by the name of their type in error texts.
_FIELDS = {"bytes": "bytes_list", "float": "float_list", "int64": "int64_list"}


def read(document: Mapping[str, JsonValue]) -> list[bytes]:
    """Read the examples in the body of a request.

    Returns:
        Pieces of a serialised Input message, which are to be merged one after another.

    Raises:
        InvalidArgumentError: If there are no examples, or one is malformed.
    """
    pieces = []
    with_context = "context" in document
    if with_context:
        piece = Input()
        piece.example_list_with_context.context.SetInParent()
        _fill(piece.example_list_with_context.context, document["context"])
        pieces.append(piece.SerializeToString())
    rows = _rows(document)
    for start in range(0, len(rows), PIECE):
        piece = Input()
        target = piece.example_list_with_context if with_context else piece.example_list
        for row in rows[start : start + PIECE]:
            _fill(target.examples.add(), row)
        pieces.append(piece.SerializeToString())
    return pieces


def _rows(document: Mapping[str, JsonValue]) -> list[JsonValue]:
    if "examples" not in document:
        # TensorFlow Serving says "classify" for regress too.
        raise json_request.malformed(document, "When method is classify, key 'examples' is expected and was not found")
    rows = document["examples"]
    if not isinstance(rows, list):
        raise json_request.malformed(document, "Expecting 'examples' value to be an list/array")
    if not rows:
        raise json_request.malformed(document, "'examples' value is an empty array")
    return rows


def write_regressions(result: RegressionResult) -> bytes:
    """Return the body of a regress response."""
    values = np.array([regression.value for regression in result.regressions], np.float32)
    if not len(values):
        raise InvalidArgumentError("Cannot convert empty RegressionResults to JSON")
    return f'{{\n{INDENT}"results": [{", ".join(format_floats(values))}]\n}}'.encode()


def write_classifications(result: ClassificationResult) -> bytes:
    """Return the body of a classify response."""
    if not result.classifications:
        raise InvalidArgumentError("Cannot convert empty ClassificationResults to JSON")
    rows = []
    for classification in result.classifications:
        scores = format_floats(np.array([entry.score for entry in classification.classes], np.float32))
        labels = [quote(entry.label) for entry in classification.classes]
        rows.append(f"[{', '.join(f'[{label}, {score}]' for label, score in zip(labels, scores, strict=True))}]")
    return encode(f'{{\n{INDENT}"results": [{", ".join(rows)}\n{INDENT}]\n}}')


def _fill(example: Any, value: JsonValue) -> None:
    """Fill an empty Example message."""
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"Example must be JSON object but got JSON {json_request.type_name(value)}")
    kinds: dict[str, str | None] = {}
    for name, content in value.items():
        key = replace_foreign(name)  # two names may have one key, whose feature holds the elements of both
        elements = content if isinstance(content, list) else [content]
        kind, values = _converted(name, elements, kinds.get(key))
        feature = example.features.feature[key]  # without elements it has no kind
        if kind and values:
            getattr(feature, _FIELDS[kind]).value.extend(values)
        kinds[key] = kind


def _converted(name: str, elements: list[JsonValue], kind: str | None) -> tuple[str | None, list[Any]]:
    """Return the type of a feature's elements, and their values.

    Args:
        name: Name of the feature.
        elements: Elements in JSON.
        kind: Type that they must have, if it is known.

    Raises:
        InvalidArgumentError: If an element has another type or cannot be converted; the error names the first one.
    """
    found, values = _converted_at_once(elements)
    if found and kind in (None, found):
        return found, values
    values = []
    for element in elements:
        of_element = _kind(name, element)
        if kind not in (None, of_element):
            raise InvalidArgumentError(f"Unexpected element type in feature: {name} expecting type: {kind}")
        kind = of_element
        if isinstance(element, dict):
            values.append(json_request.decode_base64(element))
        elif kind == "int64" and element > _INT64[1]:
            raise InvalidArgumentError(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        elif kind == "int64":
            values.append(int(element))  # True is 1
        else:
            values.append(encode(element) if kind == "bytes" else element)
    return kind, _float32(values) if kind == "float" else values


def _converted_at_once(elements: list[JsonValue]) -> tuple[str | None, list[Any]]:
    """Return the type and the values of elements that have one type in JSON; no type for any other elements."""
    types = set(map(type, elements))
    if types == {float}:
        return "float", _float32(elements)
    if types == {int} and _INT64[0] <= min(elements) and max(elements) <= _INT64[1]:
        return "int64", elements
    if types == {str}:
        return "bytes", list(map(encode, elements))
    return None, []


def _kind(name: str, value: JsonValue) -> str:
    if isinstance(value, str) or json_request.is_base64(value):
        return "bytes"
    if isinstance(value, float) or (isinstance(value, int) and not _INT64[0] <= value <= _UINT64_MAX):
        return "float"
    if isinstance(value, int):
        return "int64"
    raise InvalidArgumentError(
        f"Feature: {name} has element with unexpected JSON type: {json_request.type_name(value)}"
    )


def _float32(numbers: list[Any]) -> list[float]:
    with np.errstate(over="ignore"):  # a number beyond float32's range becomes infinite
        return np.array(numbers, np.float64).astype(np.float32).tolist()
