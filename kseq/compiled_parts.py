"""The parts of a model that XLA compiles by themselves: where this is done, and with which functions."""

import json
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import keras

from kseq import backend
from kseq.backend import Tensor
from kseq.config import jit_compile

KERAS_TRAINER = "keras/src/backend/tensorflow/trainer.py"  # its functions with this name build what `fit` runs
KERAS_STEP = "one_step_on_data"
EXPORTERS = "keras/src/export/", "tensorflow/python/saved_model/", "kseq/export/"
OF_WEIGHTS = "_initializer", "_regularizer", "_constraint"
MOST_SHARED = 64  # kinds of layers whose compiled functions are remembered


def compiles_parts(tensors: Callable[[], list[Tensor]]) -> bool:
    """Return whether a part that is now being added to a graph shall be compiled, see `kseq.config.set_jit_compile`.

    Args:
        tensors: Returns the float tensors and variables that the part uses. It is called only if it matters whether
            they are differentiated.
    """
    setting = jit_compile()
    if setting is False or not backend.can_compile_part():
        return False
    callers = list(_callers())
    if any(exporter in file for file, _ in callers for exporter in EXPORTERS):
        return False
    if setting is True:
        return True
    in_keras = any(file.endswith(KERAS_TRAINER) and name.startswith(KERAS_STEP) for file, name in callers)
    return backend.gains_from_parts() and (in_keras or backend.records_gradients(tensors))


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

    def compiled(self) -> "Differentiable":
        """Return the functions as parts that XLA compiles."""
        return Differentiable(*map(backend.compiled_part, self))


_shared: OrderedDict[Hashable, Differentiable] = OrderedDict()


def shared_parts(layer: keras.layers.Layer, options: Hashable, functions: Differentiable) -> Differentiable:
    """Return compiled functions of a layer, the same ones for all layers of equal class and configuration.

    The two directions of a `Bidirectional`, equal layers of a stack, and the graphs for training and evaluation are
    thus traced and compiled once.

    Args:
        layer: The layer. All that its functions read, apart from their arguments, is in its configuration.
        options: All else that they depend on.
        functions: The functions for this layer, compiled if there are none yet.
    """
    key = _key(layer, options)
    if key is None:
        return functions.compiled()
    if key not in _shared:
        _shared[key] = functions.compiled()
    _shared.move_to_end(key)
    while len(_shared) > MOST_SHARED:
        _shared.popitem(last=False)
    return _shared[key]


def has_shared_parts(layer: keras.layers.Layer, options: Hashable) -> bool:
    """Return whether `shared_parts` has compiled functions of an equal layer with these options."""
    return _key(layer, options) in _shared


def _key(layer: keras.layers.Layer, options: Hashable) -> Hashable:
    """Return what equal layers have in common, or None if the layer has no complete configuration."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of lambdas as if the configuration were saved
            config = json.dumps(_essential(layer.get_config()), sort_keys=True)
    except Exception:  # whatever a user's initializer, regularizer or constraint raises
        return None
    return type(layer), config, options


def _essential(config: Any) -> Any:
    """Return a configuration without names, and without what concerns the weights alone."""
    if isinstance(config, dict):
        if "Policy" in str(config.get("class_name")):
            return config  # whose name is its value
        kept = {key: value for key, value in config.items() if key != "name" and not key.endswith(OF_WEIGHTS)}
        return {key: _essential(value) for key, value in kept.items()}
    return [_essential(value) for value in config] if isinstance(config, list | tuple) else config
