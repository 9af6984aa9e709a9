"""JSON bodies of classify and regress: examples in requests, results in responses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kseq_serving.errors import InvalidArgumentError
from kseq_serving.protocol.protos import ClassificationResult, Example, Input, RegressionResult
from kseq_serving.rest import json_request
from kseq_serving.rest.json_reader import JsonValue
from kseq_serving.rest.json_writer import INDENT, encode, format_floats, quote, replace_foreign

_INT64 = (-(2**63), 2**63 - 1)
_UINT64_MAX = 2**64 - 1
# Fields of a feature, by the name of their type in error texts.
_KINDS = {"bytes": "bytes_list", "float": "float_list", "int64": "int64_list"}


def read(document: Mapping[str, JsonValue]) -> Input:
    """Read the examples in the body of a request.

    Raises:
        InvalidArgumentError: If there are none, or one is malformed.
    """
    filled = Input()
    with_context = "context" in document
    if with_context:
        filled.example_list_with_context.context.CopyFrom(_example(document["context"]))
    if "examples" not in document:
        # TensorFlow Serving says "classify" for regress too.
        raise json_request.malformed(document, "When method is classify, key 'examples' is expected and was not found")
    rows = document["examples"]
    if not isinstance(rows, list):
        raise json_request.malformed(document, "Expecting 'examples' value to be an list/array")
    if not rows:
        raise json_request.malformed(document, "'examples' value is an empty array")
    target = filled.example_list_with_context if with_context else filled.example_list
    target.examples.extend(_example(row) for row in rows)
    return filled


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


def _example(value: JsonValue) -> Example:
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"Example must be JSON object but got JSON {json_request.type_name(value)}")
    example = Example()
    for name, content in value.items():
        feature = example.features.feature[replace_foreign(name)]
        for element in content if isinstance(content, list) else [content]:
            kind, converted = _element(name, element)
            field = feature.WhichOneof("kind")
            if field not in (None, _KINDS[kind]):
                expected = next(known for known, of_kind in _KINDS.items() if of_kind == field)
                raise InvalidArgumentError(f"Unexpected element type in feature: {name} expecting type: {expected}")
            if isinstance(element, dict):
                converted = json_request.decode_base64(element)
            elif isinstance(converted, int) and converted > _INT64[1]:
                raise InvalidArgumentError(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
            getattr(feature, _KINDS[kind]).value.append(converted)
    return example


def _element(name: str, value: JsonValue) -> tuple[str, bytes | int | float]:
    """Return the type of a value and its value in the feature; for base64, an empty one, which the caller replaces."""
    if isinstance(value, str):
        return "bytes", encode(value)
    if json_request.is_base64(value):
        return "bytes", b""
    if isinstance(value, float) or (isinstance(value, int) and not _INT64[0] <= value <= _UINT64_MAX):
        with np.errstate(over="ignore"):  # a number beyond float32's range becomes infinite
            return "float", float(np.float32(float(value)))
    if isinstance(value, int):
        return "int64", int(value)
    raise InvalidArgumentError(
        f"Feature: {name} has element with unexpected JSON type: {json_request.type_name(value)}"
    )
