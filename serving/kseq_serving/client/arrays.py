"""What a user gives as inputs to the arrays that are sent, and strings that come back to what a user reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kseq_serving.client.model_info import Signature, TensorSpec

BYTES_SUFFIX = "_bytes"  # TensorFlow Serving's mark of a string output that is no text

STRINGS = np.dtype(object)

_UNKNOWN = TensorSpec(None, None)


def to_arrays(inputs: Mapping[str, Any], signature: Signature | None) -> dict[str, np.ndarray]:
    """The arrays of a request: strings as objects, bytes; numbers in the dtypes of the signature.

    What the signature does not know is left as it is: the server says best what is wrong with it.

    Args:
        inputs: array-likes by name.
        signature: the model's, None where it has none of the name that was asked for.

    Raises:
        ValueError: an input is ragged, or its values are not of the signature's dtype.
    """
    specs = signature.inputs if signature else {}
    return {name: _to_array(name, value, specs.get(name, _UNKNOWN).dtype) for name, value in inputs.items()}


def to_readable(name: str, array: np.ndarray) -> np.ndarray:
    """An output as a user gets it: text as str, foreign bytes in it as surrogate escapes; ``*_bytes`` as bytes."""
    if array.dtype != STRINGS or name.endswith(BYTES_SUFFIX):
        return array
    return map_values(lambda text: text.decode("utf-8", "surrogateescape"), array)


def encode(text: str | bytes) -> bytes:
    """The bytes of a text, surrogate escapes undone."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def _to_array(name: str, value: Any, dtype: np.dtype | None) -> np.ndarray:
    if dtype == STRINGS:
        return _to_strings(name, np.asarray(value, object), dtype)
    try:
        found = np.asarray(value)
    except ValueError as error:
        raise _ragged(name) from error
    if found.dtype.kind in "USO":
        # NumPy's own strings lose zeros at the end.
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
    """The array in a signature's dtype, where no value is another then but for its precision."""
    if not array.size:
        return np.empty(array.shape, dtype)
    if array.dtype.kind in "iu" and dtype.kind in "iu":
        cast = array.astype(dtype)
        if (cast == array).all():
            return cast
        raise ValueError(f"Input {name!r} has values that {dtype} cannot hold: {array.min()} to {array.max()}.")
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise _wrong(name, str(array.dtype), dtype)
    with np.errstate(over="ignore"):  # what is too big for a float is infinite
        return array.astype(dtype)


def _ragged(name: str) -> ValueError:
    return ValueError(
        f"Input {name!r} is ragged: its rows differ in length. Pad them to one length; models that need the lengths "
        "have an input for them."
    )


def _wrong(name: str, found: str, dtype: np.dtype) -> ValueError:
    expected = "strings" if dtype == STRINGS else str(dtype)
    return ValueError(f"Input {name!r} takes {expected}, got {found}. Convert it first if that is what you mean.")


def map_values(function: Callable[[Any], Any], array: np.ndarray) -> np.ndarray:
    """An object array of a function's results."""
    values = list(map(function, array.ravel().tolist()))
    mapped = np.empty(len(values), object)
    mapped[:] = values
    return mapped.reshape(array.shape)
