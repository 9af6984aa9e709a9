"""Numbers and ids given as options: Python's, NumPy's, and scalar tensors whose value is known.

An option is read once, when an object is made, as Python's own `int`, `float` or `bool`. So it can be saved as JSON,
and a value of a wrong kind is refused where it is given, not in an operation of the backend.
"""

import contextlib
import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import fields
from numbers import Integral
from types import NoneType, UnionType
from typing import Any, get_args

import numpy as np

from kseq.backend import Tensor, known_value

LARGEST_ID = 2**31 - 1  # ids are int32 in the graph


def whole(name: str, value: Any) -> int:
    """Return a whole number as an int.

    Raises:
        ValueError: If it is not one: a float, a string, a bool, more than one number, or not known before a graph runs.
    """
    if not isinstance(value, bool | np.bool_) and getattr(value, "shape", ()) == ():
        with contextlib.suppress(TypeError, AttributeError):  # TensorFlow raises the latter for a float
            return operator.index(value)
    raise ValueError(f"{name} must be a whole number, of Python or NumPy, but got {name}={_described(value)}.")


def real(name: str, value: Any) -> float:
    """Return a finite number as a float.

    Raises:
        ValueError: If it is not one: NaN, infinity, a string, a bool, more than one number, or not known before a graph
            runs.
    """
    number = math.nan
    if not isinstance(value, bool | np.bool_ | str | bytes) and getattr(value, "shape", ()) == ():
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, but got {name}={_described(value)}.")
    return number


def flag(name: str, value: Any) -> bool:
    """Return True or False as a bool.

    Raises:
        ValueError: If it is anything else.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, but got {name}={_described(value)}.")
    return bool(value)


def positive_int(owner: Any, name: str, value: Any) -> int:
    """Return a whole number of at least 1 as an int.

    Args:
        owner: The object whose argument it is, named in the error.
        name: Name of the argument.
        value: The argument.

    Raises:
        ValueError: If it is not such a number.
    """
    with contextlib.suppress(ValueError):
        if (number := whole(name, value)) >= 1:
            return number
    raise ValueError(f"{name}={value!r}, but {type(owner).__name__} needs a positive int.")


def share(owner: Any, name: str, value: Any) -> float:
    """Return a number from 0 to 1, the share of units that is dropped, as a float.

    Args:
        owner: The object whose argument it is, named in the error.
        name: Name of the argument.
        value: The argument.

    Raises:
        ValueError: If it is not such a number. Keras takes any number, and then drops none or all.
    """
    with contextlib.suppress(ValueError):
        if 0.0 <= (number := real(name, value)) <= 1.0:
            return number
    raise ValueError(
        f"{name}={value!r}, but for {type(owner).__name__} it is the share of units to drop: a number from 0 to 1."
    )


def plain_seed(value: Any) -> Any:
    """Return an integer seed as an int, which Keras requires, and anything else unchanged."""
    return int(value) if isinstance(value, Integral) else value


READERS: dict[Any, Callable[[str, Any], Any]] = {int: whole, float: real, bool: flag}


def read_numbers(options: Any, *, hint: str = "") -> None:
    """Read those fields of a frozen dataclass that are numbers by their annotation: `int`, `float | None`, `bool` ...

    Args:
        options: The dataclass.
        hint: The way out of a wrong number, the end of the error's message.

    Raises:
        ValueError: If a field's value is not such a number.
    """
    for field in (field for field in fields(options) if field.init):
        kinds = set(get_args(field.type) if isinstance(field.type, UnionType) else (field.type,))
        value = getattr(options, field.name)
        if len(kinds - {NoneType}) > 1 or (value is None and NoneType in kinds):
            continue
        reader: Any = READERS.get(*(kinds - {NoneType}))
        if reader is None:
            continue
        try:
            object.__setattr__(options, field.name, reader(field.name, value))
        except ValueError as error:
            raise ValueError(f"{error} {hint}".rstrip()) from None


def ids(name: str, values: Any) -> np.ndarray:
    """Return a sequence of ids as int32 `(n,)`.

    Args:
        name: The subject of the error.
        values: A list, tuple, set, range, generator or array of whole numbers that fit into int32.

    Raises:
        ValueError: If they are not.
    """
    if isinstance(values, Iterable) and not isinstance(values, str | bytes) and not hasattr(values, "shape"):
        values = list(values)
    try:
        array = np.asarray(values)
    except ValueError:  # rows of unequal lengths
        array = np.asarray(None)
    if array.ndim == 1 and not array.size:
        return array.astype("int32")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be a sequence of ids, which are whole numbers, but got {_described(values)}. Map texts "
            "to ids first."
        )
    if not -LARGEST_ID <= array.min() <= array.max() <= LARGEST_ID:
        raise ValueError(f"{name} must be a sequence of ids that fit into int32, but got {_described(values)}.")
    return array.astype("int32")


def id_sequences(name: str, values: Any, of: str) -> list[tuple[int, ...]]:
    """Return sequences of ids, such as words of classes, as tuples of ints.

    Args:
        name: The object that they are given to.
        values: An iterable of sequences of ids.
        of: What one of them is called.

    Raises:
        ValueError: If `values` are not sequences, or one of them is not of ids.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise ValueError(f"{name} needs a list of {of}s, each a sequence of ids, but got {_described(values)}.")
    return [tuple(ids(f"{of} {number} of {name}", each).tolist()) for number, each in enumerate(values)]


def check_whole_tensor(name: str, tensor: Tensor) -> None:
    """Raise ValueError unless a tensor has an integer's dtype, and its values, as far as known, fit into int32."""
    dtype = _dtype_of(tensor)
    if "int" not in dtype:
        raise ValueError(f"{name} must be whole numbers, but got {dtype}. Cast them to int32 if all of them are.")
    known = known_value(tensor) if dtype in ("int64", "uint64", "uint32") else None
    if known is not None and known.size and not -LARGEST_ID <= known.min() <= known.max() <= LARGEST_ID:
        raise ValueError(f"{name} must fit into int32, but are between {known.min()} and {known.max()}.")


def _dtype_of(tensor: Any) -> str:
    dtype = tensor.dtype
    return getattr(dtype, "name", str(dtype))


def _described(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({type(value).__name__})"
