"""Fingerprints of kseq's own steps and strategies: keys that are equal only while all that they read is unchanged.

A compiled function keeps the Python values that it read when it was traced. It may be used again only if a new trace
would read the same numbers, strings, arrays and tensors. Variables are read anew at each call, so their identity is
enough. A user's own code may read anything, so only objects of kseq and Keras have a fingerprint.
"""

import functools
import hashlib
import types
from collections.abc import Iterator, Mapping, Set
from typing import Any

import keras
import numpy as np

from kseq.backend import is_fixed_tensor

LIBRARIES = ("kseq", "keras", "numpy", "tensorflow", "functools", "collections", "builtins")
PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes, range, slice)
# Attributes of models and layers that no step reads.
UNREAD = (keras.Optimizer, keras.metrics.Metric, keras.losses.Loss, keras.callbacks.Callback)
UNREAD_NAMES = ("train_function", "test_function", "predict_function", "history", "optimizer", "_tracker")
HELD = ("_thread", "threading", "weakref", "inspect")  # modules of locks and the like, which Keras's layers hold


class UnknownError(Exception):
    """An object of which it cannot be known what a function that uses it reads."""


class Fingerprint:
    """The traversal of all that some objects read.

    Attributes:
        pins: The objects that the key knows by identity: they must outlive it, so that no other takes their place.
    """

    def __init__(self) -> None:
        self.pins: list[Any] = []
        self._seen: dict[int, tuple[int, Any]] = {}  # with the object, so that no other takes its place meanwhile

    def of(self, value: Any) -> Any:
        """Return the key of a value; hashable.

        Raises:
            UnknownError: If it cannot be known what a function that uses the value reads.
        """
        kind = type(value)
        if kind in PLAIN:
            return kind, repr(value)  # 0.0 == -0.0, but they are not the same number
        if id(value) in self._seen:
            return "seen", self._seen[id(value)][0]
        self._seen[id(value)] = len(self._seen), value
        if isinstance(value, keras.Variable) or is_fixed_tensor(value):
            return self._identity(value)
        if isinstance(value, UNREAD) or _comes_from(kind, "kseq.text", *HELD):
            return "not read"
        if _comes_from(kind, "tensorflow") and not isinstance(value, list | tuple | Mapping | Set):
            return "not read"  # functions and references that TensorFlow keeps in a model
        if not _in_library(kind):
            return self._other(value)
        return self._identity(kind), *self._parts(value)

    def _identity(self, value: Any) -> int:
        self.pins.append(value)
        return id(value)

    def _other(self, value: Any) -> Any:
        """Return the key of a method or function of a library."""
        if isinstance(value, types.MethodType):
            return self.of(value.__func__), self.of(value.__self__)
        if isinstance(value, types.FunctionType) and _is_name_of_library(value.__module__ or ""):
            cells = tuple(self.of(cell.cell_contents) for cell in value.__closure__ or ())
            return self._identity(value.__code__), cells, self.of(value.__defaults__), self.of(value.__kwdefaults__)
        raise UnknownError(type(value).__name__)

    def _parts(self, value: Any) -> Iterator[Any]:
        if isinstance(value, np.ndarray | np.generic):
            yield from _array(np.asarray(value))
        elif isinstance(value, type):
            if not _in_library(value):
                raise UnknownError(value.__name__)
            yield self._identity(value)
        elif isinstance(value, functools.partial):
            yield from (self.of(value.func), self.of(value.args), self.of(value.keywords))
        elif isinstance(value, list | tuple):
            yield from map(self.of, value)
        elif isinstance(value, Mapping):
            yield from (self.of(each) for item in list(value.items()) for each in item)
        elif isinstance(value, Set):
            yield frozenset(map(self.of, value))
        elif _comes_from(type(value), "kseq", "keras"):
            attributes = getattr(value, "__dict__", {})
            yield from ((name, self.of(attributes[name])) for name in list(attributes) if name not in UNREAD_NAMES)
        else:
            yield self._identity(value)


def _array(array: np.ndarray) -> Iterator[Any]:
    if array.dtype.hasobject or type(array) is not np.ndarray:
        raise UnknownError("an array of objects")
    content = hashlib.blake2b(np.ascontiguousarray(array).view("uint8").data if array.size else b"").digest()
    yield from (array.shape, array.dtype.str, content)


def _comes_from(kind: type, *packages: str) -> bool:
    return any(kind.__module__ == package or kind.__module__.startswith(f"{package}.") for package in packages)


def _in_library(kind: type) -> bool:
    return kind not in (types.FunctionType, types.MethodType) and _is_name_of_library(kind.__module__)


def _is_name_of_library(module: str) -> bool:
    return module.split(".")[0] in LIBRARIES
