"""The parts of a model that XLA compiles by themselves: where this is done, and with which functions."""

import json
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import keras
from keras import tree

from kseq import backend
from kseq.backend import Tensor
from kseq.config import jit_compile
from kseq.eager_calls import is_compiled_call, sizes_of

Call = tuple[Hashable, Hashable]  # its kind, and its padded sizes

KERAS_TRAINER = "keras/src/backend/tensorflow/trainer.py"  # its functions with this name build what `fit` runs
KERAS_STEP = "one_step_on_data"
# Whose graphs contain no parts: servers may refuse those of exports, and `tf.vectorized_map` loses custom gradients.
WITHOUT_PARTS = (
    "keras/src/export/",
    "kseq/export/",
    "tensorflow/python/saved_model/",
    "tensorflow/python/ops/parallel_for/",
)
OF_WEIGHTS = "_initializer", "_regularizer", "_constraint"
LONG_LOOP = 64  # steps of a loop, which take longer operation by operation than a graph takes to trace
MOST_REMEMBERED = 64  # kinds of layers, losses and decoders whose compiled functions are remembered


def compiles_parts(tensors: Callable[[], list[Tensor]], *, call: Callable[[], Call | None]) -> bool:
    """Return whether a part that is now being computed shall be compiled, see `kseq.config.set_jit_compile`.

    Args:
        tensors: Returns the float tensors and variables that the part uses. It is called only if it matters whether
            they are differentiated.
        call: Returns the call, if operations run one by one: only some of those are compiled, see
            `kseq.eager_calls.is_compiled_call`. None for a call that is not, because each would be compiled anew.
    """
    setting = jit_compile()
    if setting is False or not backend.can_compile_part() or backend.recording(tensors) == "forward":
        return False
    if setting == "auto" and backend.has_accelerator():
        return False
    if backend.runs_eagerly():
        known = call()
        return known is not None and is_compiled_call(*known, at_once=setting is True)
    callers = list(_callers())
    if any(excluded in file for file, _ in callers for excluded in WITHOUT_PARTS):
        return False
    in_keras = any(file.endswith(KERAS_TRAINER) and name.startswith(KERAS_STEP) for file, name in callers)
    return setting is True or in_keras or backend.recording(tensors) == "reverse"


def _callers() -> Iterator[tuple[str, str]]:
    """Yield the files and names of the functions that are being called. Keras has no public sign of what it builds."""
    frame = sys._getframe()
    while frame is not None:
        yield frame.f_code.co_filename.replace("\\", "/"), frame.f_code.co_name
        frame = frame.f_back


class Differentiable(NamedTuple):
    """The three functions of `kseq.backend.custom_gradient`."""

    primal: Callable
    forward: Callable
    backward: Callable

    def compiled(self, key: Hashable | None = None) -> "Differentiable":
        """Return the functions as parts that XLA compiles.

        Args:
            key: All that the functions depend on, apart from their arguments: functions of equal keys are traced and
                compiled once. Layers and losses of equal configuration thus share compiled functions: the two
                directions of a `Bidirectional`, equal layers of a stack, and the graphs for training and evaluation.
                None: these functions share nothing.
        """
        return Differentiable(*map(backend.compiled_part, self, _traces(key, len(self))))


_remembered: OrderedDict[Hashable, Any] = OrderedDict()


def _remember(key: Hashable, make: Callable[[], Any]) -> Any:
    """Return what `make` returned for an equal key; call it if it is not among the last keys."""
    if key not in _remembered:
        _remembered[key] = make()
    _remembered.move_to_end(key)
    while len(_remembered) > MOST_REMEMBERED:
        _remembered.popitem(last=False)
    return _remembered[key]


def _traces(key: Hashable | None, count: int) -> list[OrderedDict[Any, Any]]:
    """Return what has been traced of `count` functions, see `kseq.backend.compiled_part`."""
    new = [OrderedDict() for _ in range(count)]
    return new if key is None else _remember(key, lambda: new)


def is_remembered(key: Hashable) -> bool:
    """Return whether functions of an equal key have been compiled."""
    return key in _remembered


def call_part(
    function: Callable[..., Any], argument: Any, pad: Callable[[Any], Any], *, key: Hashable | None, steps: int | Tensor
) -> Any:
    """Return `function(argument)`, computed in the way that takes the least time here.

    That is a part that XLA compiles, see `compiles_parts`, if no derivative of it may be asked for. Otherwise it is, in
    calls outside graphs, a graph that serves all sizes, unless it is the first call of a short loop.

    Args:
        function: A pure function from a nest of tensors and constants to a nest of tensors.
        argument: The nest.
        pad: Returns the nest with padding of unknown sizes, with which a part is called. The caller cuts the result.
        key: All that the function depends on, apart from its argument, and apart from sizes that `pad` pads; None if
            that is unknown. Then the function is compiled only in graphs.
        steps: The number of steps of the function's loop.
    """

    def tensors() -> list[Tensor]:
        return [leaf for leaf in tree.flatten(argument) if hasattr(leaf, "dtype")]

    def call() -> Call | None:
        return None if key is None else (key, sizes_of(pad(argument)))

    recorded = backend.recording(tensors) != "none"
    if not recorded and compiles_parts(tensors, call=call):
        return backend.compiled_part(function, _traces(key, 1)[0])(pad(argument))
    if key is None or not backend.runs_eagerly():
        return function(argument)
    first = not is_remembered((backend.as_graph, key))
    graph = _remember((backend.as_graph, key), lambda: backend.as_graph(function))
    short = not isinstance(steps, int) or steps < LONG_LOOP
    return function(argument) if first and short else graph(argument)


def equal_layers(layer: keras.layers.Layer) -> Hashable:
    """Return what equal layers have in common, or None if the layer has no complete configuration."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of lambdas as if the configuration were saved
            config = json.dumps(_essential(layer.get_config()), sort_keys=True)
    except Exception:  # whatever a user's initializer, regularizer or constraint raises
        return None
    return type(layer), config


def _essential(config: Any) -> Any:
    """Return a configuration without names, and without what concerns the weights alone."""
    if isinstance(config, dict):
        if "Policy" in str(config.get("class_name")):
            return config  # whose name is its value
        kept = {key: value for key, value in config.items() if key != "name" and not key.endswith(OF_WEIGHTS)}
        return {key: _essential(value) for key, value in kept.items()}
    return [_essential(value) for value in config] if isinstance(config, list | tuple) else config
