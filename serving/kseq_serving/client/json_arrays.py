"""Arrays in the JSON bodies of predict, in the form of columns (`inputs`, `outputs`)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from kseq_serving.client.arrays import STRINGS, map_values
from kseq_serving.client.model_info import TensorSpec

# Kinds of NumPy dtypes that JSON values may be parsed to, by the kind of the expected dtype.
_KINDS = {"f": "f", "i": "i", "u": "iu", "b": "b"}


def write(array: np.ndarray) -> Any:
    """Return the JSON value of an array: NaN and Infinity for such numbers, base64 for bytes that are not UTF-8.

    Raises:
        ValueError: If JSON cannot express the dtype or the shape.
    """
    if array.dtype.kind == "c":
        raise ValueError(f"JSON has no complex numbers ({array.dtype}). Use a grpc:// address.")
    if not array.size and 0 in array.shape[:-1]:
        raise ValueError(f"JSON cannot say the shape {array.shape}: its lists are empty. Use a grpc:// address.")
    return (map_values(write_bytes, array) if array.dtype == STRINGS else array).tolist()


def write_bytes(value: bytes) -> str | dict[str, str]:
    """Return the JSON value of a string."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def read_outputs(value: Any, specs: Mapping[str, TensorSpec]) -> dict[str, np.ndarray]:
    """Read the arrays of an answer.

    Args:
        value: The `outputs` of the answer: a value if the signature has one output, else values by name.
        specs: Outputs of the signature.

    Raises:
        ValueError: If the answer does not fit the signature.
    """
    if len(specs) == 1:
        ((name, spec),) = specs.items()
        return {name: read(value, spec)}
    if not isinstance(value, dict) or value.keys() != specs.keys():
        raise ValueError(f"expected the outputs {sorted(specs)}")
    return {name: read(value[name], spec) for name, spec in specs.items()}


def read(value: Any, spec: TensorSpec) -> np.ndarray:
    """Convert a JSON value to an array of the signature's dtype; strings to object arrays of bytes.

    Raises:
        ValueError: If the value is ragged or has another type.
    """
    array = _strings(value) if spec.dtype == STRINGS else _numbers(value, spec.dtype)
    if not array.size and spec.shape and array.ndim < len(spec.shape):
        # An array without rows is an empty list in JSON, whatever its other dimensions are.
        return array.reshape(array.shape + tuple(size or 0 for size in spec.shape[array.ndim :]))
    return array


def _numbers(value: Any, dtype: np.dtype | None) -> np.ndarray:
    found = np.array(value)
    if dtype is None or not found.size:
        return found.astype(dtype)
    if dtype == np.uint64:
        found = np.array(value, object)  # NumPy would convert small and very large integers together to float
        if set(map(type, found.flat)) != {int}:
            raise ValueError(f"expected {dtype}")
    elif found.dtype.kind not in _KINDS.get(dtype.kind, ""):
        raise ValueError(f"expected {dtype}, got {found.dtype}")
    return found.astype(dtype)


def _strings(value: Any) -> np.ndarray:
    return map_values(_read_bytes, np.array(value, object))


def _read_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, dict) and value.keys() == {"b64"}:
        return base64.b64decode(value["b64"])
    raise ValueError(f"expected a string, got {json.dumps(value)[:80]}")
