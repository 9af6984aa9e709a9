"""Fingerprints of functions: keys that are equal only while all that the functions read is unchanged.

A compiled function keeps the Python values that it read when it was traced. It may be used again only if a new trace
would read the same: the same code, numbers, strings, arrays, attributes and tensors. Variables are read anew at each
call, so their identity is enough.
"""

import dis
import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from kseq.backend import is_fixed_tensor

LIBRARIES = ("kseq", "keras", "numpy", "tensorflow", "jax", "math", "operator", "functools", "collections", "itertools")
IMPURE = {"print", "input", "open", "eval", "exec", "globals", "locals", "next", "breakpoint", "random"}
PLAIN = (type(None), type(...), bool, int, float, complex, str, bytes, np.generic, np.dtype, range, slice)
BOOKKEEPING = (
    inspect.Signature,
    keras.Optimizer,
    keras.metrics.Metric,
    keras.losses.Loss,
    keras.callbacks.Callback,
)
BY_REFERENCE = ("tensorflow", "jax")  # a graph reads their variables and tables anew
DESCRIPTORS = (staticmethod, classmethod, property, functools.cached_property)


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

    def of(self, value: Any, *, ours: bool = False) -> Any:
        """Return the key of a value; hashable.

        Args:
            value: Any object.
            ours: Whether it is an attribute of a library's object. Among these are objects for bookkeeping, which no
                computation reads: what they are made of need not be known.

        Raises:
            UnknownError: If it cannot be known what a function that uses the value reads.
        """
        if isinstance(value, PLAIN):
            return type(value), value
        if id(value) in self._seen:
            return "seen", self._seen[id(value)][0]
        self._seen[id(value)] = len(self._seen), value
        if isinstance(value, keras.Variable) or is_fixed_tensor(value):
            return self._identity(value)
        return self._identity(type(value)), *self._parts(value, ours)

    def _identity(self, value: Any) -> int:
        self.pins.append(value)
        return id(value)

    def _parts(self, value: Any, ours: bool) -> Iterator[Any]:
        if isinstance(value, np.ndarray):
            yield from self._array(value)
        elif isinstance(value, list | tuple):
            yield from (self.of(each, ours=ours) for each in value)
        elif isinstance(value, Mapping):
            yield from (self.of(each, ours=ours) for item in list(value.items()) for each in item)
        elif isinstance(value, set | frozenset):
            yield frozenset(self.of(each, ours=ours) for each in value)
        elif isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, types.MethodType):
            yield from (self.of(value.__func__), self.of(value.__self__))
        elif isinstance(value, functools.partial):
            yield from (self.of(value.func), self.of(value.args), self.of(value.keywords))
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, DESCRIPTORS):
            functions = (getattr(value, name, None) for name in ("fget", "fset", "__func__", "func"))
            yield from (self.of(each) for each in functions)
        else:
            yield from self._object(value, ours)

    def _array(self, array: np.ndarray) -> Iterator[Any]:
        if array.dtype.hasobject:
            raise UnknownError("an array of objects")
        content = hashlib.blake2b(np.ascontiguousarray(array).view("uint8").data if array.size else b"").digest()
        yield from (array.shape, array.dtype.str, content)

    def _object(self, value: Any, ours: bool) -> Iterator[Any]:
        if isinstance(value, types.ModuleType | types.BuiltinFunctionType):
            name = getattr(value, "__module__", None) or getattr(value, "__name__", "")
            if not (_in_library(name) or name == "builtins"):
                raise UnknownError(name)
            yield self._identity(value)
            return
        module = type(value).__module__
        if isinstance(value, BOOKKEEPING) or module.startswith(BY_REFERENCE):
            yield self._identity(value)
            return
        attributes = getattr(value, "__dict__", None)
        if ours and _in_standard_library(module):
            yield self._identity(value)
        elif attributes is None or "__slots__" in vars(type(value)):
            if not ours:
                raise UnknownError(type(value).__name__)
            yield self._identity(value)
        else:
            ours = _in_library(module)
            if not ours:
                yield self.of(type(value))
            yield from (self.of(each, ours=ours) for item in list(attributes.items()) for each in item)

    def _class(self, made: type) -> Iterator[Any]:
        """Yield the keys of what a class of the user's and its bases define; a library's do not change."""
        for each in made.__mro__:
            yield self._identity(each)
            if not (_in_library(each.__module__) or _in_standard_library(each.__module__)):
                own = {name: x for name, x in vars(each).items() if not (name.startswith("__") and name.endswith("__"))}
                own |= {name: x for name, x in vars(each).items() if isinstance(x, types.FunctionType)}
                yield from (self.of(part) for item in own.items() for part in item)

    def _function(self, function: types.FunctionType) -> Iterator[Any]:
        yield self._identity(function.__code__)
        for cell in function.__closure__ or ():
            try:
                yield self.of(cell.cell_contents)
            except ValueError:  # not yet set
                raise UnknownError("an empty cell") from None
        yield from (self.of(function.__defaults__), self.of(function.__kwdefaults__))
        around = function.__globals__
        if _in_library(around.get("__name__", "")):
            return
        names = _names(function.__code__)
        if names is None:
            raise UnknownError(function.__name__)
        yield from (self._global(around[name], names) for name in sorted(names) if name in around)

    def _global(self, value: Any, names: frozenset[str]) -> Any:
        """Return the key of a global; of a module of the user's, that of those of its attributes that are named."""
        if isinstance(value, types.ModuleType) and not _in_library(value.__name__):
            used = sorted(names & vars(value).keys())
            return value.__name__, tuple(self._global(getattr(value, name), names) for name in used)
        return self.of(value)


@functools.lru_cache(maxsize=512)
def _names(code: types.CodeType) -> frozenset[str] | None:
    """Return the globals and attributes that a function's code names; None if it imports, prints or sets globals."""
    names = set(code.co_names)
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("IMPORT_NAME", "STORE_GLOBAL", "YIELD_VALUE"):
            return None
    if names & IMPURE:
        return None
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = _names(constant)
            if inner is None:
                return None
            names |= inner
    return frozenset(names)


def _in_standard_library(name: str) -> bool:
    return name.split(".")[0] in sys.stdlib_module_names


def _in_library(name: str) -> bool:
    return name.split(".")[0] in LIBRARIES
