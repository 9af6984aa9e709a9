"""Fingerprints of kseq's own steps and strategies: keys that are equal only while all that they read is unchanged.

A compiled function keeps the Python values that it read when it was traced. It may be used again only if a new trace
would read the same numbers, strings, arrays and tensors. Variables are read anew at each call, so their identity is
enough. A user's own code may read anything, so only objects of kseq and Keras have a fingerprint.
"""

import functools
import hashlib
import operator
import sys
import types
import weakref
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any

import keras
import numpy as np

from kseq.backend import is_fixed_tensor

LIBRARIES = ("kseq", "keras", "numpy", "tensorflow", "functools", "collections", "builtins")
PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes, range, slice)
# Attributes of models and layers that no step reads.
UNREAD = (keras.Optimizer, keras.metrics.Metric, keras.losses.Loss, keras.callbacks.Callback)
KNOWN = "_known_fingerprint"  # attribute of the owner of a step
UNREAD_NAMES = ("train_function", "test_function", "predict_function", "history", "optimizer", "_tracker", KNOWN)
HELD = ("_thread", "threading", "weakref", "inspect")  # modules of locks and the like, which Keras's layers hold


class UnknownError(Exception):
    """An object of which it cannot be known what a function that uses it reads."""


class Fingerprint:
    """The traversal of all that some objects read.

    Attributes:
        pins: The objects that the key knows by identity: they must outlive it, so that no other takes their place.
        read: What was found in the objects that can change: `(object, function, what it returned)`, for `unchanged`.
    """

    def __init__(self) -> None:
        self.pins: list[Any] = []
        self.read: list[tuple[Any, Callable[[Any], list], list]] = []
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

    def _note(self, value: Any, parts_of: Callable[[Any], list]) -> None:
        self.read.append((value, parts_of, parts_of(value)))

    def unchanged(self) -> bool:
        """Return whether a new traversal of the same objects would find the same.

        It compares what the objects consist of by identity, which takes a fraction of the time of a traversal.
        """
        for value, parts_of, before in self.read:
            now = parts_of(value)
            if len(now) != len(before) or not all(map(operator.is_, now, before)):
                return False
        return True

    def _identity(self, value: Any) -> int:
        self.pins.append(value)
        return id(value)

    def _other(self, value: Any) -> Any:
        """Return the key of a method or function of a library."""
        if isinstance(value, types.MethodType):
            return self.of(value.__func__), self.of(value.__self__)
        if isinstance(value, types.FunctionType) and _is_name_of_library(value.__module__ or ""):
            self._note(value, _of_function)
            cells = tuple(self.of(cell.cell_contents) for cell in value.__closure__ or ())
            return self._identity(value.__code__), cells, self.of(value.__defaults__), self.of(value.__kwdefaults__)
        raise UnknownError(type(value).__name__)

    def _parts(self, value: Any) -> Iterator[Any]:
        if isinstance(value, np.ndarray | np.generic):
            self._note(value, _array)
            yield from _array(value)
        elif isinstance(value, type):
            if not _in_library(value):
                raise UnknownError(value.__name__)
            yield self._identity(value)
        elif isinstance(value, functools.partial):
            yield from (self.of(value.func), self.of(value.args), self.of(value.keywords))
        elif isinstance(value, list | tuple):
            if not isinstance(value, tuple):
                self._note(value, list)
            yield from map(self.of, value)
        elif isinstance(value, Mapping):
            self._note(value, _of_mapping)
            yield from (self.of(each) for item in list(value.items()) for each in item)
        elif isinstance(value, Set):
            self._note(value, list)
            yield frozenset(map(self.of, value))
        elif _comes_from(type(value), "kseq", "keras"):
            attributes = getattr(value, "__dict__", {})
            self._note(attributes, _of_mapping)
            yield from ((name, self.of(attributes[name])) for name in list(attributes) if name not in UNREAD_NAMES)
        else:
            yield self._identity(value)


class KnownFingerprint:
    """The fingerprint of a step at its last call, an attribute of the step's owner.

    It belongs to the owner because it refers to the owner's parts: so it is forgotten with the owner.

    Attributes:
        owner: A weak reference to the owner; a shallow copy of it has the attribute too.
        function: The step, without its owner; None if there is no fingerprint.
        fingerprint: The traversal.
        key: What it returned.
    """

    fingerprint: Fingerprint
    key: Any

    def __init__(self, owner: Any = None) -> None:
        self.owner = None if owner is None else weakref.ref(owner)
        self.function: Any = None

    def __reduce__(self) -> tuple:
        """Copy and pickle without the fingerprint: a copy of the owner has other parts."""
        return KnownFingerprint, ()


def fingerprint_of_step(step: Callable) -> tuple[Any, list[Any]]:
    """Return the key of a step, and the objects that it knows by identity.

    Raises:
        UnknownError: If it cannot be known what the step reads.
    """
    function, owner = getattr(step, "__func__", step), getattr(step, "__self__", step)
    attributes = getattr(owner, "__dict__", {})
    known = attributes.get(KNOWN)
    if known is None or known.owner is None or known.owner() is not owner:
        known = attributes[KNOWN] = KnownFingerprint(owner)  # before the attributes are read
    if known.function is not function or not known.fingerprint.unchanged():
        known.function, known.fingerprint = None, Fingerprint()
        try:
            known.key = known.fingerprint.of(step)
        except BaseException:
            del attributes[KNOWN]
            raise
        known.function = function
    return known.key, known.fingerprint.pins


def _array(value: np.ndarray | np.generic) -> list:
    """Return shape, dtype and a digest of an array, interned, so that equal ones are identical."""
    array = np.asarray(value)
    if array.dtype.hasobject or type(array) is not np.ndarray:
        raise UnknownError("an array of objects")
    content = hashlib.blake2b(np.ascontiguousarray(array).view("uint8").data if array.size else b"").hexdigest()
    return [sys.intern(f"{array.shape} {array.dtype.str} {content}")]


def _of_function(function: types.FunctionType) -> list:
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return [function.__code__, function.__defaults__, function.__kwdefaults__, *cells]


def _of_mapping(mapping: Mapping) -> list:
    return [*mapping, *mapping.values()]


def _comes_from(kind: type, *packages: str) -> bool:
    return any(kind.__module__ == package or kind.__module__.startswith(f"{package}.") for package in packages)


def _in_library(kind: type) -> bool:
    return kind not in (types.FunctionType, types.MethodType) and _is_name_of_library(kind.__module__)


def _is_name_of_library(module: str) -> bool:
    return module.split(".")[0] in LIBRARIES
