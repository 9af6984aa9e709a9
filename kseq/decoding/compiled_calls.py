"""Calls outside compiled functions, compiled once and used again while all that they read is unchanged."""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import keras

from kseq.backend import as_graph, runs_eagerly
from kseq.decoding.fingerprint import Fingerprint, UnknownError, fingerprint_of_step

MOST_CALLS = 16  # that are remembered


class _Call:
    """A call that came before.

    Attributes:
        pins: The objects that its key names.
        end: Forgets the call when the owner of its step is deleted, before another object can get its place in memory.
        compiled: Its compiled function, once it has come again.
    """

    def __init__(self, pins: list[Any], end: weakref.finalize) -> None:
        self.pins, self.end = pins, end
        self.compiled: Callable | None = None


_calls: OrderedDict[Any, _Call] = OrderedDict()
_lock = threading.Lock()


def compiled_again(function: Callable, step: Callable, options: Any) -> Callable | None:
    """Return `arguments -> function(step, *arguments)` as a graph, or None if it shall be called as it is.

    From the second equal call on there is a graph: `step` and `options` are the same, and all that they read is
    unchanged, see `Fingerprint`. There is none where this cannot be known, as for a step that a user has written, nor
    in a graph, nor on JAX. There is none at the first call either: it may be the only one.

    Args:
        function: Reads nothing but its arguments and `options`.
        step: A function, a method of a model, or an object. It is not kept alive.
        options: Further objects that `function` reads.
    """
    if not runs_eagerly():
        return None
    fingerprint = Fingerprint()
    try:
        of_step, pins = fingerprint_of_step(step)
        of_keras = keras.config.floatx(), keras.config.epsilon()
        owner = id(getattr(step, "__self__", step))
        key = function.__code__, owner, of_step, fingerprint.of(options), of_keras
        call = _find(key, step, [*pins, *fingerprint.pins])
    except (UnknownError, RecursionError, TypeError):  # TypeError: no hash, or no weak reference
        return None
    if call is not None and call.compiled is None:
        call.compiled = as_graph(_without_holding(function, step))
    return None if call is None else call.compiled


def _find(key: Any, step: Callable, pins: list[Any]) -> _Call | None:
    """Return the earlier call of this key; None at the first, which is remembered."""
    with _lock:
        call = _calls.get(key)
        if call is not None:
            _calls.move_to_end(key)
            return call
        _calls[key] = _Call(pins, weakref.finalize(getattr(step, "__self__", step), _calls.pop, key, None))
        while len(_calls) > MOST_CALLS:
            _calls.popitem(last=False)[1].end.detach()
        return None


def _without_holding(function: Callable, step: Callable) -> Callable:
    """Return `function` with the step as its first argument, which it does not keep alive."""
    find = weakref.WeakMethod(step) if hasattr(step, "__self__") else weakref.ref(step)
    return lambda *arguments: function(find(), *arguments)
