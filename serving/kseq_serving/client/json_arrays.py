"""Arrays in the JSON bodies of predict: columns out (``inputs``), columns back (``outputs``)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from kseq_serving.client.arrays import STRINGS, map_values
from kseq_serving.client.model_info import TensorSpec

# The kinds of NumPy's dtypes that the values of a JSON array may be read as, by the kind that is expected.
_KINDS = {"f": "f", "i": "i", "u": "iu", "b": "b"}


def write(array: np.ndarray) -> Any:
    """The JSON value of an array; not finite numbers become NaN and Infinity, bytes that are no text base64.

    Raises:
        ValueError: JSON cannot say it.
    """
    if array.dtype.kind == "c":
        raise ValueError(f"JSON has no complex numbers ({array.dtype}). Use a grpc:// address.")
    if not array.size and 0 in array.shape[:-1]:
        raise ValueError(f"JSON cannot say the shape {array.shape}: its lists are empty. Use a grpc:// address.")
    return (map_values(write_bytes, array) if array.dtype == STRINGS else array).tolist()


def write_bytes(value: bytes) -> str | dict[str, str]:
    """The JSON value of a string."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def read_outputs(value: Any, specs: Mapping[str, TensorSpec]) -> dict[str, np.ndarray]:
    """The arrays of an answer.

    Args:
        value: what the answer has under ``outputs``: the value itself where the signature has one output, else
            values by name.
        specs: the signature's outputs.

    Raises:
        ValueError: it is no answer of this signature.
    """
    if len(specs) == 1:
        ((name, spec),) = specs.items()
        return {name: read(value, spec)}
    if not isinstance(value, dict) or value.keys() != specs.keys():
        raise ValueError(f"expected the outputs {sorted(specs)}")
    return {name: read(value[name], spec) for name, spec in specs.items()}


def read(value: Any, spec: TensorSpec) -> np.ndarray:
    """The array of a JSON value in the signature's dtype; strings as objects, bytes.

    Raises:
        ValueError: the value is ragged or of another kind.
    """
    array = _strings(value) if spec.dtype == STRINGS else _numbers(value, spec.dtype)
    if not array.size and spec.shape and array.ndim < len(spec.shape):
        # JSON's empty list stands for what is empty in its first dimension, whatever the others are.
        return array.reshape(array.shape + tuple(size or 0 for size in spec.shape[array.ndim :]))
    return array


def _numbers(value: Any, dtype: np.dtype | None) -> np.ndarray:
    found = np.array(value)
    if dtype is None or not found.size:
        return found.astype(dtype)
    if dtype == np.uint64:
        found = np.array(value, object)  # NumPy makes floats of small and large integers together
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
