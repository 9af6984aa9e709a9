"""Conversion of users' inputs to the arrays that are sent, and of returned strings to str."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kseq_serving.client.model_info import Signature, TensorSpec

BYTES_SUFFIX = "_bytes"  # names of string outputs that are not text end so, as in TensorFlow Serving

STRINGS = np.dtype(object)

_UNKNOWN = TensorSpec(None, None)


def to_arrays(inputs: Mapping[str, Any], signature: Signature | None) -> dict[str, np.ndarray]:
    """Convert inputs to arrays: strings to object arrays of bytes, numbers to the dtypes of the signature.

    Inputs that the signature does not have are converted too, and left for the server to refuse.

    Args:
        inputs: Array-likes by name.
        signature: Requested signature; None if the model does not have it.

    Raises:
        ValueError: If an input is ragged, or its dtype or number of axes does not fit the signature's.
    """
    specs = signature.inputs if signature else {}
    arrays = {name: _to_array(name, value, specs.get(name, _UNKNOWN).dtype) for name, value in inputs.items()}
    for name, array in arrays.items():
        shape = specs.get(name, _UNKNOWN).shape
        if shape is not None and len(shape) != array.ndim:
            raise _wrong_axes(name, array.shape, shape)
    return arrays


def to_readable(name: str, array: np.ndarray) -> np.ndarray:
    """Convert the strings of an output to str, with surrogate escapes for bytes that are not UTF-8.

    Outputs of numbers, and those whose names end in `_bytes`, stay as they are.
    """
    if array.dtype != STRINGS or name.endswith(BYTES_SUFFIX):
        return array
    return map_values(lambda text: text.decode("utf-8", "surrogateescape"), array)


def encode(text: str | bytes) -> bytes:
    """Return the bytes of a text; surrogate escapes become the bytes that they stand for."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def _to_array(name: str, value: Any, dtype: np.dtype | None) -> np.ndarray:
    if dtype == STRINGS:
        return _to_strings(name, np.asarray(value, object), dtype)
    try:
        found = np.asarray(value)
    except ValueError as error:
        raise _ragged(name) from error
    if found.dtype.kind in "USO":
        # Object arrays, since NumPy's string dtypes drop trailing NULs.
        return _to_strings(name, np.asarray(value, object), dtype)
    if dtype is None or found.dtype == dtype:
        return found
    return _cast(name, found, dtype)


def _to_strings(name: str, array: np.ndarray, dtype: np.dtype | None) -> np.ndarray:
    expected = STRINGS if dtype is None else dtype
    for leaf in array.flat:
        if isinstance(leaf, list | tuple | np.ndarray):
            raise _ragged(name)
        if not isinstance(leaf, str | bytes):
            raise _wrong(name, type(leaf).__name__, expected)
    if expected != STRINGS:
        raise _wrong(name, "strings", expected)
    return map_values(encode, array)


def _cast(name: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Cast an array to a signature's dtype, if the values lose nothing but precision."""
    if not array.size:
        return np.empty(array.shape, dtype)
    if array.dtype.kind in "iu" and dtype.kind in "iu":
        cast = array.astype(dtype)
        if (cast == array).all():
            return cast
        raise ValueError(f"Input {name!r} has values that {dtype} cannot hold: {array.min()} to {array.max()}.")
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise _wrong(name, str(array.dtype), dtype)
    with np.errstate(over="ignore"):  # a number beyond the dtype's range becomes infinite
        return array.astype(dtype)


def _ragged(name: str) -> ValueError:
    return ValueError(
        f"Input {name!r} is ragged: its rows differ in length. Pad them to one length; models that need the lengths "
        "have an input for them."
    )


def _wrong_axes(name: str, found: tuple[int, ...], expected: tuple[int | None, ...]) -> ValueError:
    axes = str(expected).replace("None", "any")
    hint = " Put one row into a list." if len(found) + 1 == len(expected) else ""
    return ValueError(f"Input {name!r} takes shape {axes}, got {found}.{hint}")


def _wrong(name: str, found: str, dtype: np.dtype) -> ValueError:
    expected = "strings" if dtype == STRINGS else str(dtype)
    return ValueError(f"Input {name!r} takes {expected}, got {found}. Convert it first if that is what you mean.")


def map_values(function: Callable[[Any], Any], array: np.ndarray) -> np.ndarray:
    """Apply a function to each value of an array, and return the results as an object array."""
    values = list(map(function, array.ravel().tolist()))
    mapped = np.empty(len(values), object)
    mapped[:] = values
    return mapped.reshape(array.shape)
